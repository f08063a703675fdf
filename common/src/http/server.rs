//! Serves a router: limits, time-outs, request ids, callers, errors, metrics.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{self, DefaultBodyLimit, MatchedPath},
    http::{HeaderName, HeaderValue, Method, Request, StatusCode},
    middleware::{self, Next},
    response::Response,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tower::Service;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer};
use tracing::{debug, warn};

use super::{
    caller::{InternalKey, verify_caller},
    problem::{self, Problem, Shape},
    threads::Threads,
    unread,
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    shutdown::Shutdown,
    slots::{self, Slots, network},
};

/// Limits of every HTTP listener, section `http` of the settings.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Largest body, in bytes; more is answered 413.
    pub max_body_bytes: usize,
    /// Longest time for an answer, in milliseconds; more is answered 503. A client that takes nothing of its answer for so long
    /// is cut.
    pub request_timeout_ms: u64,
    /// Longest time that a client may take to send the head of a request, in milliseconds.
    pub header_timeout_ms: u64,
    /// Most connections at a time on one listener; more have to wait.
    pub max_connections: usize,
}

impl HttpSettings {
    fn validate(&self) -> io::Result<()> {
        let limits = [
            ("max_body_bytes", self.max_body_bytes as u64, 1 << 30),
            ("request_timeout_ms", self.request_timeout_ms, 3_600_000),
            ("header_timeout_ms", self.header_timeout_ms, 3_600_000),
            ("max_connections", self.max_connections as u64, 10_000_000),
        ];
        match limits.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            None => Ok(()),
            Some((key, _, most)) => {
                let message = format!("http.{key} must be from 1 to {most}");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// A bound listener that is not serving yet.
pub struct HttpServer {
    listener: TcpListener,
    settings: HttpSettings,
    clients: Option<Clients>,
    threads: usize,
}

/// How many connections one client address may have.
struct Clients {
    slots: Slots<IpAddr>,
    is_exempt: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl HttpServer {
    /// Binds an address such as `127.0.0.1:0`.
    pub async fn bind(listen: &str, settings: HttpSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))?;
        Self::on(listener, settings)
    }

    /// For a socket that listens already.
    pub fn on(listener: TcpListener, settings: HttpSettings) -> io::Result<Self> {
        settings.validate()?;
        Ok(Self { listener, settings, clients: None, threads: 0 })
    }

    /// The same, with `most` connections of one client address at a time; more are closed at once. Of IPv6 addresses the
    /// network counts. An address that is exempt speaks for many.
    #[must_use]
    pub fn with_most_per_address(
        self,
        most: usize,
        is_exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        let clients = Clients { slots: Slots::new(most, usize::MAX), is_exempt: Box::new(is_exempt) };
        Self { clients: Some(clients), ..self }
    }

    /// The same, on `count` threads of its own, each with its connections; with 0 on those of the caller's runtime.
    #[must_use]
    pub fn with_threads(self, count: usize) -> Self {
        Self { threads: count, ..self }
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves a router until the end is asked for, then lets open requests finish.
    pub async fn run(self, router: Router, shutdown: Shutdown) {
        let answer = move |mut request: Request<Incoming>, peer: Peer| {
            request.extensions_mut().insert(peer);
            let mut router = router.clone();
            async move {
                let answered: Result<_, Infallible> = router.call(request.map(Body::new)).await;
                answered.unwrap_or_else(|never| match never {})
            }
        };
        self.run_service(answer, shutdown).await;
    }

    /// The same with whatever answers; it sees requests as they come, without routing.
    pub async fn run_service<A, F>(self, answer: A, shutdown: Shutdown)
    where
        A: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.settings.max_connections));
        let threads = Threads::start(self.threads, &shutdown);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.settings.header_timeout_ms))
            .max_headers(100)
            .max_buf_size(64 * 1024);
        let mut backoff = Backoff::default();
        while let Some((slot, accepted)) = shutdown.unless_requested(accept(&self.listener, &slots)).await {
            let (stream, peer) = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of file descriptors, most likely: waiting is better than spinning.
                    warn!(%error, "cannot accept a connection");
                    backoff.wait().await;
                    continue;
                }
            };
            backoff.reset();
            let Ok(share) = self.share_of(peer.ip()) else {
                metrics::counter!("http_connections_refused_total").increment(1);
                debug!(%peer, "an address has too many connections");
                continue;
            };
            let _ = stream.set_nodelay(true);
            cut_when_deaf(&stream, self.settings.request_timeout_ms);
            // It leaves the runtime that has accepted it.
            let Ok(stream) = stream.into_std() else { continue };
            let (http, answer, stop) = (http.clone(), answer.clone(), shutdown.clone());
            let serve = async move {
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                let answer = move |request| {
                    let answered = answer(request, Peer(peer));
                    async move { Ok::<_, Infallible>(answered.await) }
                };
                let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
                let mut connection = std::pin::pin!(connection.with_upgrades());
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = stop.requested() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    debug!(%peer, %error, "a connection ended with an error");
                }
                drop((slot, share));
            };
            shutdown.spawn_on("http connection", serve, &threads.next());
        }
    }

    /// A place among the connections of an address, where those are counted.
    fn share_of(&self, address: IpAddr) -> Result<Option<slots::Slot<IpAddr>>, TooMany> {
        match &self.clients {
            Some(clients) if !(clients.is_exempt)(address.to_canonical()) => {
                clients.slots.take(&network(address)).map(Some).ok_or(TooMany)
            }
            _ => Ok(None),
        }
    }
}

/// Has the kernel end a connection whose client takes nothing of what there is for it, or is not there any more: an answer that
/// waits holds memory, and at the gateway a connection to a service. Whoever takes a little now and then is only slow.
fn cut_when_deaf(stream: &TcpStream, after_ms: u64) {
    let after_ms = u32::try_from(after_ms).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, after_ms) {
        debug!(%error, "a connection without a time-out for what is written");
    }
}

/// An address has as many connections as it may have.
struct TooMany;

type Slot = Option<tokio::sync::OwnedSemaphorePermit>;

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (Slot, io::Result<(TcpStream, SocketAddr)>) {
    // The semaphore is never closed, so there is always a slot.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    (slot, listener.accept().await)
}

/// The address at the other end of the connection, in the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Identifier of a request, taken over from `X-Request-Id` or made here; in the extensions of every request.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Name of the header, in requests and answers.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// The identifier of a request: what the client says if it is short and printable, else a new UUID.
    pub fn of(headers: &axum::http::HeaderMap) -> Self {
        let sensible = |value: &&HeaderValue| value.len() <= 64 && value.to_str().is_ok();
        if let Some(value) = headers.get(Self::HEADER).filter(sensible) {
            return Self(value.clone());
        }
        // From the random numbers of this thread: others would cost a system call for every request.
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        Self(HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("unknown")
    }

    /// As a header value.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// What the layers of a service need to know.
#[derive(Clone)]
pub struct Layers {
    /// Name of the service in metrics.
    pub service: &'static str,
    /// How it writes errors.
    pub shape: Shape,
    /// Verifies callers.
    pub key: InternalKey,
    /// The time.
    pub clock: Clock,
    /// Limits.
    pub settings: HttpSettings,
}

impl Layers {
    /// Wraps the routes of a service. The last layer in this list is the first that sees a request.
    pub fn wrap(self, router: Router) -> Router {
        let Self { service, shape, key, clock, settings } = self;
        let timeout = Duration::from_millis(settings.request_timeout_ms);
        router
            // Handlers find a verified caller, or the reason why there is none.
            .layer(middleware::from_fn(move |request, next| {
                verify_caller(key.clone(), clock.clone(), request, next)
            }))
            // A body over the limit never reaches a handler; axum's own, lower limit is switched off.
            .layer(RequestBodyLimitLayer::new(settings.max_body_bytes))
            .layer(DefaultBodyLimit::disable())
            // Outside of everything that may answer before it has read the body.
            .layer(middleware::from_fn(move |request, next| {
                unread::read_rest(settings.max_body_bytes, request, next)
            }))
            // Outside of everything that may hang.
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, timeout))
            // A bug costs one request and not the connection.
            .layer(CatchPanicLayer::custom(panicked))
            // Sees the answer of everything above, so that all errors have one shape.
            .layer(middleware::from_fn(move |request, next| problem::render(shape, request, next)))
            // Counts what the client sees.
            .layer(middleware::from_fn(move |request, next| measure(service, request, next)))
            // Everything else may log the id.
            .layer(middleware::from_fn(request_id))
    }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    use axum::response::IntoResponse;
    Problem::internal("a handler panicked").into_response()
}

async fn request_id(mut request: extract::Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(RequestId::HEADER, id.value());
    response
}

/// The method as metrics name it. Clients may make up any number of others, each of which would be counted for ever.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

async fn measure(service: &'static str, request: extract::Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = known(request.method()).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let labels = [("service", service.to_owned()), ("method", method), ("route", route), ("status", status)];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_seconds", &labels).record(started.elapsed().as_secs_f64());
    response
}
