//! Hands a request to a service and its answer to the client, without collecting either.

use std::{
    error::Error,
    iter,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::{
    config::Config,
    connections::{self, Answer, Limits, SendError},
    dispatch::InUse,
    error::Refusal,
    lent::Lent,
    session::Learner,
};

/// How services are talked to.
pub(crate) struct Forwarder {
    pub(crate) limits: Limits,
    response_timeout: Duration,
    body_pause: Duration,
}

impl Forwarder {
    /// For a gateway whose connections are on so many threads.
    pub(crate) fn new(config: &Config, threads: usize) -> Self {
        Self {
            limits: Limits {
                connect: Duration::from_millis(config.connect_timeout_ms),
                keep_alive: Duration::from_millis(config.keep_alive_ms),
                max_idle: config.max_idle_connections.div_ceil(threads.max(1)),
            },
            response_timeout: Duration::from_millis(config.response_timeout_ms),
            body_pause: Duration::from_millis(config.body_pause_ms),
        }
    }

    /// The moment until which a service that is asked now must have begun to answer.
    pub(crate) fn deadline(&self, timeout_ms: Option<u64>) -> Instant {
        Instant::now() + timeout_ms.map_or(self.response_timeout, Duration::from_millis)
    }

    /// Sends a request that is ready to go and waits until the instance begins to answer.
    pub(crate) async fn send(
        &self,
        instance: InUse,
        request: Request<Lent>,
        deadline: Instant,
    ) -> Result<Response<Answer>, Failure> {
        let answer = connections::send(instance, request, self.limits);
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure { refusal: Refusal::Timeout, stage: Stage::TooLate }),
        }
    }

    /// The answer for the client, whose body ends with an error when the service pauses for too long.
    pub(crate) fn receive(&self, response: Response<Answer>, learner: Option<Learner>) -> Response {
        let (parts, body) = response.into_parts();
        if body.is_end_stream() {
            return Response::from_parts(parts, Body::empty());
        }
        let watched = Watched { body, longest: self.body_pause, pause: None, learner };
        Response::from_parts(parts, Body::new(watched))
    }
}

/// A service gave no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the client is told.
    pub(crate) refusal: Refusal,
    /// How far it got.
    pub(crate) stage: Stage,
}

/// How far a request without an answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was sent: there was no connection.
    NotSent,
    /// The connection ended without an answer.
    Sent,
    /// The time for an answer is over.
    TooLate,
    /// The client did not send what it should; the service is not to blame.
    Client,
}

impl Failure {
    /// What a failed attempt means for the client (dojot-api.md 1.5).
    fn of(error: &SendError) -> Self {
        let chain = || iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
        if let Some(refusal) = chain().find_map(|error| error.downcast_ref::<Refusal>()) {
            return Self { refusal: refusal.clone(), stage: Stage::Client };
        }
        let text = chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let (refusal, stage) = match error {
            SendError::Http(_) => (Refusal::Upstream, Stage::Sent),
            SendError::Unsent(_) | SendError::Connect(_) => (Refusal::Upstream, Stage::NotSent),
            SendError::ConnectTimeout => (Refusal::Timeout, Stage::NotSent),
            SendError::Name(_) => (Refusal::Name, Stage::NotSent),
        };
        if stage == Stage::NotSent {
            warn!(error = text, "a service cannot be reached");
        } else {
            debug!(error = text, "a service did not answer as it should");
        }
        Self { refusal, stage }
    }
}

/// A body that may not pause for long. There is a timer only while it pauses.
struct Watched {
    body: Answer,
    longest: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    learner: Option<Learner>,
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
            if let Some(learner) = self.learner.take()
                && let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                learner(data);
            }
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
