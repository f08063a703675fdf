//! Connections to one instance. A request and the connection that carries it belong to one task, so nobody has to be woken
//! in between.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use thread_local::ThreadLocal;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    task::coop::unconstrained,
    time::{Instant, Sleep},
};

use crate::{
    domain::{
        answer::{BadAnswer, Decoder, Head, HeadReader},
        head::BodyLength,
    },
    error::Refusal,
    upload::{Upload, UploadError},
};

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

/// A connection, and what was read from it and not used yet.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: BytesMut,
    patience: Patience,
}

/// A request that is ready to go.
pub(crate) struct Outgoing<'a> {
    /// As it is sent.
    pub(crate) head: &'a [u8],
    pub(crate) length: BodyLength,
    pub(crate) body: &'a mut Upload,
    /// Whether the answer has no body whatever it says.
    pub(crate) to_head: bool,
    /// Whether carrying it out twice is as good as once.
    pub(crate) is_repeatable: bool,
    /// Whether services expect a body with such a method. Others may take one for the next request, so the connection is not used
    /// again.
    pub(crate) expects_body: bool,
    /// Until when the answer has to begin.
    pub(crate) deadline: Instant,
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
    Unsent(#[source] io::Error),
    #[error("the connection was closed without an answer")]
    Silent,
    #[error("the connection is broken")]
    Io(#[source] io::Error),
    #[error("the answer cannot be read")]
    Bad(#[from] BadAnswer),
    #[error("no answer in time")]
    Timeout,
    /// What the client did not send as it should.
    #[error("the request is incomplete")]
    Client(#[source] Refusal),
}

impl SendError {
    /// Of a connection that ended before it was used.
    fn unsent() -> Self {
        Self::Unsent(io::ErrorKind::ConnectionAborted.into())
    }
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
    /// Sends a request and waits until the answer begins.
    pub(crate) async fn send(
        &self,
        address: &str,
        request: &mut Outgoing<'_>,
        limits: &Limits,
    ) -> Result<(Head, Connection), SendError> {
        loop {
            let known = self.take(limits);
            let is_known = known.is_some();
            let mut connection = match known {
                Some(connection) => connection,
                None => Connection::open(address, limits).await?,
            };
            match connection.exchange(request).await {
                Ok(head) => return Ok((head, connection)),
                // It had been closed just then.
                Err(SendError::Unsent(_)) if is_known => {}
                Err(SendError::Silent) if is_known && request.is_repeatable => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps a connection that can be used again.
    pub(crate) fn give_back(&self, connection: Connection, limits: &Limits) {
        let mut idle = self.idle();
        if idle.len() < limits.max_idle {
            idle.push_back(Idle { connection, since: Instant::now() });
        }
    }

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
            let Idle { connection, since } = self.idle().pop_back()?;
            if since.elapsed() < limits.keep_alive && connection.is_quiet() {
                return Some(connection);
            }
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
        Ok(Self { stream, buffer: BytesMut::new(), patience: Patience::default() })
    }

    /// Whether nothing has arrived that nobody asked for, the end most of all.
    fn is_quiet(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        self.buffer.is_empty() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads the head of its answer. An answer may come before the whole body was sent; then nothing
    /// more of it is sent, and the connection is not used again.
    async fn exchange(&mut self, request: &mut Outgoing<'_>) -> Result<Head, SendError> {
        let Self { stream, buffer, patience } = self;
        let deadline = request.deadline;
        let sending = Sending::default();
        let exchange = async {
            if matches!(request.length, BodyLength::None | BodyLength::Exact(0)) {
                write_head(stream, request.head).await?;
                return read_head(stream, buffer, request.to_head).await;
            }
            let (to_head, expects_body) = (request.to_head, request.expects_body);
            let (mut reader, mut writer) = stream.split();
            let mut upload = pin!(upload(&mut writer, request, &sending));
            let mut answer = pin!(read_head(&mut reader, buffer, to_head));
            let mut sent = None;
            let answered = poll_fn(|context| {
                if sent.is_none()
                    && let Poll::Ready(ended) = upload.as_mut().poll(context)
                {
                    match ended {
                        Err(SendError::Client(refusal)) => {
                            return Poll::Ready(Err(SendError::Client(refusal)));
                        }
                        // Who does not take more may have said why.
                        ended => sent = Some(ended.is_ok()),
                    }
                }
                let answered = ready!(answer.as_mut().poll(context));
                // What comes before the request is no answer to it.
                let is_early = !sending.has_begun.load(Ordering::Relaxed);
                Poll::Ready(if is_early { Err(SendError::unsent()) } else { answered })
            });
            let mut head = answered.await?;
            head.keeps_connection &= sent == Some(true) && expects_body;
            Ok(head)
        };
        let mut exchange = pin!(exchange);
        poll_fn(|context| match exchange.as_mut().poll(context) {
            Poll::Pending => patience.poll(context, deadline).map(|()| Err(sending.late())),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }

    /// What comes next of a body; `None` at its end. One that pauses until the deadline is given up.
    pub(crate) fn poll_body(
        &mut self,
        decoder: &mut Decoder,
        context: &mut Context<'_>,
        deadline: impl FnOnce() -> Instant,
    ) -> Poll<Option<Result<Bytes, SendError>>> {
        loop {
            match decoder.take(&mut self.buffer) {
                Ok(None) if decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            let read = pin!(read(&mut self.stream, &mut self.buffer)).poll(context);
            match read {
                Poll::Ready(Ok(0)) if *decoder == Decoder::UntilClose => *decoder = Decoder::Length(0),
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(BadAnswer::BrokenOff.into()))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(SendError::Io(error)))),
                Poll::Pending => {
                    ready!(self.patience.poll(context, deadline()));
                    return Poll::Ready(Some(Err(SendError::Timeout)));
                }
            }
        }
    }
}

/// A timer that is set again only after it went off: most of what it guards is over long before, and setting one costs more
/// than asking it.
#[derive(Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Ready at the deadline, or at the first question after it.
    fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            // Who has always something to say uses up what a task may do at once, and would never be late.
            ready!(pin!(unconstrained(sleep.as_mut())).poll(context));
            if sleep.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Room for what is read at once.
const READ_BYTES: usize = 16 * 1024;
/// With less room than this there is made more.
const LEAST_ROOM_BYTES: usize = 2 * 1024;

async fn read(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < LEAST_ROOM_BYTES {
        buffer.reserve(READ_BYTES);
    }
    reader.read_buf(buffer).await
}

async fn read_head(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    to_head: bool,
) -> Result<Head, SendError> {
    let (mut heads, mut is_silent) = (HeadReader::new(to_head), true);
    loop {
        if let Some(head) = heads.read(buffer)? {
            return Ok(head);
        }
        match read(reader, buffer).await {
            Ok(0) | Err(_) if is_silent => return Err(SendError::Silent),
            Ok(0) => return Err(BadAnswer::BrokenOff.into()),
            Ok(_) => is_silent = false,
            Err(error) => return Err(SendError::Io(error)),
        }
    }
}

/// Sends a head that no body follows.
async fn write_head(writer: &mut (impl AsyncWrite + Unpin), mut head: &[u8]) -> Result<(), SendError> {
    let length = head.len();
    let written = writer.write_all_buf(&mut head).await;
    // Who does not take all of it may have said why.
    written.or_else(|error| if head.len() == length { Err(SendError::Unsent(error)) } else { Ok(()) })
}

/// How far a request with a body has got.
#[derive(Default)]
struct Sending {
    /// The service may have something of it.
    has_begun: AtomicBool,
    /// It goes on when the client sends more.
    waits_for_client: AtomicBool,
}

impl Sending {
    /// Who let the time go by.
    fn late(&self) -> SendError {
        let is_client = self.waits_for_client.load(Ordering::Relaxed);
        if is_client { SendError::Client(UploadError::TooSlow.into()) } else { SendError::Timeout }
    }
}

/// Sends head and body. The head goes with the first piece of the body, and so not before that is permitted.
async fn upload(
    writer: &mut (impl AsyncWrite + Unpin),
    request: &mut Outgoing<'_>,
    sending: &Sending,
) -> Result<(), SendError> {
    let Outgoing { head, length, body, .. } = request;
    let is_chunked = *length == BodyLength::Unknown;
    let mut before = head.to_vec();
    loop {
        sending.waits_for_client.store(true, Ordering::Relaxed);
        let frame = body.frame().await.transpose().map_err(SendError::Client)?;
        sending.waits_for_client.store(false, Ordering::Relaxed);
        sending.has_begun.store(true, Ordering::Relaxed);
        let is_end = frame.is_none();
        // Trailers are for this connection only.
        let data = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        let mut after: &[u8] = b"";
        if is_chunked && !data.is_empty() {
            before.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            after = b"\r\n";
        }
        if is_chunked && is_end {
            after = b"0\r\n\r\n";
        }
        let mut piece = Buf::chain(before.as_slice(), data).chain(after);
        writer.write_all_buf(&mut piece).await.map_err(SendError::Io)?;
        if is_end || (!is_chunked && body.is_end_stream()) {
            return Ok(());
        }
        before = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn patience_ends_at_the_deadline_however_it_was_set_before() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut patience = Patience::default();
        for deadline in [5, 10, 15] {
            poll_fn(|context| patience.poll(context, after(deadline))).await;
            assert!(Instant::now() >= after(deadline));
        }
        let mut patience = Patience::default();
        assert!(pin!(poll_fn(|context| patience.poll(context, after(600_000)))).now_or_never().is_none());
        poll_fn(|context| patience.poll(context, after(20))).await;
        assert!(start.elapsed() < Duration::from_mins(1), "an earlier deadline");
    }

    #[tokio::test]
    async fn patience_ends_for_who_has_used_up_its_turn() {
        let mut patience = Patience::default();
        let now = Instant::now();
        poll_fn(|context| patience.poll(context, now)).await;
        poll_fn(|context| {
            while pin!(tokio::task::coop::consume_budget()).poll(context).is_ready() {}
            assert!(patience.poll(context, now).is_ready());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_service_says_before_it_was_asked_is_no_answer() {
        use axum::body::Body;
        use futures_util::stream;
        for early in ["", "HTTP/1.1 408 Request Timeout\r\n\r\n", "SSH"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let limits = Limits { connect: Duration::from_mins(1), keep_alive: Duration::ZERO, max_idle: 0 };
            let address = listener.local_addr().unwrap().to_string();
            let mut connection = Connection::open(&address, &limits).await.unwrap();
            let (mut service, _) = listener.accept().await.unwrap();
            service.write_all(early.as_bytes()).await.unwrap();
            drop(service);
            // A body whose end has to be decided about.
            let body = Body::from_stream(stream::pending::<io::Result<Bytes>>());
            let mut body = Upload::new(body, 10, Instant::now() + Duration::from_mins(1));
            let answer = connection.exchange(&mut outgoing(BodyLength::Unknown, &mut body)).await;
            assert!(matches!(answer, Err(SendError::Unsent(_))), "{early} {answer:?}");
        }
    }

    fn outgoing(length: BodyLength, body: &mut Upload) -> Outgoing<'_> {
        let deadline = Instant::now() + Duration::from_mins(1);
        Outgoing {
            head: b"head\r\n",
            length,
            body,
            to_head: false,
            is_repeatable: false,
            expects_body: true,
            deadline,
        }
    }

    #[tokio::test]
    async fn bodies_are_sent_with_their_length_or_in_chunks() {
        use axum::body::Body;
        use futures_util::stream;
        for (length, expected) in [
            (BodyLength::Exact(5), "head\r\nabcde"),
            (BodyLength::Unknown, "head\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ] {
            let pieces = ["abc", "", "de"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
            let mut body = Upload::new(Body::from_stream(stream::iter(pieces)), 10, Instant::now());
            let mut sent = Vec::new();
            let mut request = outgoing(length, &mut body);
            upload(&mut sent, &mut request, &Sending::default()).await.unwrap();
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
        }
    }
}
