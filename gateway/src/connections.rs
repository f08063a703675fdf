//! Connections to one instance. A request and the connection that carries it belong to one task, so nobody has to be woken
//! in between, as with a pool whose connections have tasks of their own.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody},
    extract::Request,
    http::StatusCode,
};
use futures_util::{FutureExt, future::BoxFuture};
use hyper::{
    Response,
    body::{Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use thread_local::ThreadLocal;
use tokio::{
    net::{TcpStream, lookup_host},
    time::Instant,
};

use crate::{dispatch::InUse, lent::Lent};

/// What every connection of the process has to keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Longest time to connect.
    pub(crate) connect: Duration,
    /// How long an unused connection is kept.
    pub(crate) keep_alive: Duration,
    /// Most unused connections of a thread to an instance.
    pub(crate) max_idle: usize,
}

/// Reads and writes while it is polled; ends with the connection.
pub(crate) type Driver = BoxFuture<'static, hyper::Result<()>>;

/// Unused connections to one instance, those of each thread for itself: one belongs to the scheduler where it began.
#[derive(Default)]
pub(crate) struct Connections {
    /// The one that was used last is at the end. Others look only to forget some.
    idle: ThreadLocal<Mutex<VecDeque<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Lent>,
    driver: Driver,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the name cannot be resolved")]
    Name(#[source] io::Error),
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("no connection in time")]
    ConnectTimeout,
    /// Nothing of the request was sent.
    #[error("the connection was closed at once")]
    Unsent(#[source] hyper::Error),
    #[error("no answer")]
    Http(#[source] hyper::Error),
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle: usize = self.idle.iter().map(|idle| lock(idle).len()).sum();
        f.debug_struct("Connections").field("idle", &idle).finish()
    }
}

fn lock<T>(idle: &Mutex<T>) -> MutexGuard<'_, T> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Forgets connections that nobody has used for too long.
    pub(crate) fn purge(&self, limits: &Limits) {
        for idle in &self.idle {
            let mut idle = lock(idle);
            while idle.front().is_some_and(|idle| idle.since.elapsed() >= limits.keep_alive) {
                idle.pop_front();
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        lock(self.idle.get_or_default())
    }

    /// The connection that was used last, if it is still good.
    fn take(&self, limits: &Limits) -> Option<Connection> {
        loop {
            let Idle { mut connection, since } = self.idle().pop_back()?;
            if since.elapsed() < limits.keep_alive && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    fn give_back(&self, connection: Connection, limits: &Limits) {
        let mut idle = self.idle();
        if idle.len() < limits.max_idle {
            idle.push_back(Idle { connection, since: Instant::now() });
        }
    }
}

impl Connection {
    async fn open(address: &str, limits: &Limits) -> Result<Self, SendError> {
        let connect = async {
            let addresses: Vec<_> = lookup_host(address).await.map_err(SendError::Name)?.collect();
            TcpStream::connect(&*addresses).await.map_err(SendError::Connect)
        };
        let stream = tokio::time::timeout(limits.connect, connect).await;
        let stream = stream.map_err(|_| SendError::ConnectTimeout)??;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(SendError::Unsent)?;
        Ok(Self { sender, driver: connection.with_upgrades().boxed() })
    }

    /// Whether another request can be sent. Sees what has arrived since it was used last, the end most of all.
    fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.driver.poll_unpin(&mut context).is_pending() && self.sender.is_ready()
    }
}

/// Sends a request to an instance and waits until it begins to answer.
pub(crate) async fn send(
    instance: InUse,
    mut request: Request<Lent>,
    limits: Limits,
) -> Result<Response<Answer>, SendError> {
    loop {
        let known = instance.target.connections.take(&limits);
        let is_known = known.is_some();
        let mut connection = match known {
            Some(connection) => connection,
            None => Connection::open(&instance.target.dialled, &limits).await?,
        };
        let mut answer = std::pin::pin!(connection.sender.try_send_request(request));
        let mut driver = Some(&mut connection.driver);
        let answered = poll_fn(|context| {
            if driver.as_mut().is_some_and(|driver| driver.poll_unpin(context).is_ready()) {
                driver = None;
            }
            answer.as_mut().poll(context)
        });
        let answered = answered.await;
        let is_open = driver.is_some();
        match answered {
            Ok(response) => {
                let connection = is_open.then_some(connection);
                // What becomes another protocol goes on.
                let goes_on = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                return Ok(response.map(|body| {
                    let mut answer = Answer { body, connection, instance, limits };
                    if answer.body.is_end_stream() && !goes_on {
                        answer.end();
                    }
                    answer
                }));
            }
            Err(mut error) => match error.take_message() {
                // It had ended just then.
                Some(unsent) if is_known => request = unsent,
                Some(_) => return Err(SendError::Unsent(error.into_error())),
                None => return Err(SendError::Http(error.into_error())),
            },
        }
    }
}

/// The body of an answer. Its connection reads while this is read, and can be used again after the end.
pub(crate) struct Answer {
    body: Incoming,
    /// There until the end of the body.
    connection: Option<Connection>,
    /// Counts as busy until this is dropped.
    instance: InUse,
    limits: Limits,
}

impl Answer {
    /// Who answers.
    pub(crate) fn instance(&self) -> &InUse {
        &self.instance
    }

    /// What has to go on if the connection becomes something else, and who is at its other end.
    pub(crate) fn into_parts(self) -> (Option<Driver>, InUse) {
        (self.connection.map(|connection| connection.driver), self.instance)
    }

    /// Gives the connection back. One that is still sending, or was closed, is not usable.
    fn end(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_usable()
        {
            self.instance.target.connections.give_back(connection, &self.limits);
        }
    }

    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        // There is room for more now, so the connection reads it.
        let Some(connection) = &mut self.connection else { return Poll::Pending };
        if connection.driver.poll_unpin(context).is_ready() {
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.poll_body(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
