//! A connection that became a websocket: bytes go both ways until one side closes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use common::shutdown::Shutdown;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tracing::debug;

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 4 * 1024;
/// How long both sides may say goodbye when the process ends.
const GOODBYE: Duration = Duration::from_secs(3);

/// A tunnel that is being opened.
pub(crate) struct Tunnel {
    /// The connection to the client.
    pub(crate) client: OnUpgrade,
    /// The connection to the service.
    pub(crate) service: OnUpgrade,
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// Its place among the others.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Carries bytes until a side closes, nothing moves for too long, or the process ends.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let gauge = metrics::gauge!("gateway_websockets");
        gauge.increment(1.0);
        if let Err(error) = self.carry(shutdown).await {
            debug!(%error, "a websocket ended with an error");
        }
        gauge.decrement(1.0);
    }

    async fn carry(self, shutdown: Shutdown) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Self { client, service, idle, permit } = self;
        let moved = Arc::new(AtomicBool::new(false));
        let (client, service) = tokio::try_join!(client, service)?;
        let mut client = Watched { io: TokioIo::new(client), moved: Arc::clone(&moved) };
        let mut service = Watched { io: TokioIo::new(service), moved: Arc::clone(&moved) };
        tokio::select! {
            ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut service, BUFFER_BYTES, BUFFER_BYTES) => {
                ended?;
            }
            () = stands_still(&moved, idle) => debug!("a websocket was closed because nothing moved"),
            // The service says goodbye itself; only what is left then is cut.
            () = shutdown.requested() => {
                let rest = tokio::io::copy_bidirectional(&mut client, &mut service);
                let _ = tokio::time::timeout(GOODBYE, rest).await;
            }
        }
        drop(permit);
        Ok(())
    }
}

/// Completes when nothing has moved for `idle`, give or take a half.
async fn stands_still(moved: &AtomicBool, idle: Duration) {
    let mut every = tokio::time::interval(idle / 2);
    every.tick().await;
    let mut quiet = 0;
    while quiet < 2 {
        every.tick().await;
        quiet = if moved.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
    }
}

/// Notes that something was read.
struct Watched<T> {
    io: T,
    moved: Arc<AtomicBool>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.moved.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
