//! Hands a request to a service and its answer to the client, without collecting either.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    response::Response,
};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::{config::Config, error::Refusal, upload::Upload};

/// A pool of connections to the services.
pub(crate) struct Forwarder {
    client: Client<HttpConnector, Upload>,
    response_timeout: Duration,
    body_pause: Duration,
}

impl Forwarder {
    pub(crate) fn new(config: &Config) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(config.keep_alive_ms))
            .pool_max_idle_per_host(config.max_idle_connections)
            .build(connector);
        Self {
            client,
            response_timeout: Duration::from_millis(config.response_timeout_ms),
            body_pause: Duration::from_millis(config.body_pause_ms),
        }
    }

    /// Sends a request that is ready to go and waits until the service begins to answer.
    pub(crate) async fn send(
        &self,
        request: Request<Upload>,
        timeout_ms: Option<u64>,
    ) -> Result<hyper::Response<Incoming>, Refusal> {
        let timeout = timeout_ms.map_or(self.response_timeout, Duration::from_millis);
        match tokio::time::timeout(timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err(Refusal::Timeout),
        }
    }

    /// The answer for the client, whose body ends with an error when the service pauses for too long.
    pub(crate) fn receive(&self, response: hyper::Response<Incoming>) -> Response {
        let (parts, body) = response.into_parts();
        if body.is_end_stream() {
            return Response::from_parts(parts, Body::empty());
        }
        Response::from_parts(parts, Body::new(Watched { body, longest: self.body_pause, pause: None }))
    }
}

/// What a failed attempt means for the client (dojot-api.md 1.5).
fn refusal(error: &hyper_util::client::legacy::Error) -> Refusal {
    let chain = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    if let Some(refusal) = chain().find_map(|error| error.downcast_ref::<Refusal>()) {
        return refusal.clone();
    }
    let text = chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    if !error.is_connect() {
        debug!(error = text, "a service did not answer as it should");
        return Refusal::Upstream;
    }
    warn!(error = text, "a service cannot be reached");
    let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    if chain().any(|error| error.downcast_ref().is_some_and(is_timeout)) {
        Refusal::Timeout
    } else if chain().any(|error| error.to_string().starts_with("dns error")) {
        Refusal::Name
    } else {
        Refusal::Upstream
    }
}

/// A body that may not pause for long. There is a timer only while it pauses.
struct Watched {
    body: Incoming,
    longest: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let longest = self.longest;
        let pause =
            self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + longest)));
        ready!(pause.as_mut().poll(context));
        Poll::Ready(Some(Err("the service paused for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
