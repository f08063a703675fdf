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
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::{Notify, OwnedSemaphorePermit},
};
use tracing::debug;

use crate::forward::Answer;

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 4 * 1024;
/// How long the other side may say goodbye when one side has closed, and both when the process ends.
const GOODBYE: Duration = Duration::from_secs(3);

/// A tunnel that is being opened.
pub(crate) struct Tunnel {
    /// The connection to the client.
    pub(crate) client: OnUpgrade,
    /// The answer that opens it, with the connection that it came on.
    pub(crate) answer: Answer,
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
        let Self { client, answer, idle, permit } = self;
        // The instance counts as busy until the end.
        let (connection, instance) = answer.into_parts();
        let Some((service, greeting)) = connection else { return Ok(()) };
        let activity = Arc::<Activity>::default();
        let mut client = Watched { io: TokioIo::new(client.await?), activity: Arc::clone(&activity) };
        let mut service = Watched { io: service, activity: Arc::clone(&activity) };
        // What came with the answer.
        tokio::time::timeout(idle, client.write_all(&greeting)).await??;
        // A websocket lives long, and this is as large as what is read at once.
        drop(greeting);
        let copy =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut service, BUFFER_BYTES, BUFFER_BYTES);
        let mut copy = std::pin::pin!(copy);
        let ends = async {
            tokio::select! {
                () = activity.closed.notified() => {}
                () = shutdown.requested() => {}
            }
        };
        tokio::select! {
            ended = &mut copy => {
                ended?;
            }
            () = stands_still(&activity, idle) => debug!("a websocket was closed because nothing moved"),
            // What is on its way arrives, and the service says goodbye itself; what is left then is cut.
            () = ends => {
                let _ = tokio::time::timeout(GOODBYE, copy).await;
            }
        }
        drop((permit, instance));
        Ok(())
    }
}

/// Completes when nothing has moved for `idle`, give or take a half.
async fn stands_still(activity: &Activity, idle: Duration) {
    let mut every = tokio::time::interval(idle / 2);
    every.tick().await;
    let mut quiet = 0;
    while quiet < 2 {
        every.tick().await;
        quiet = if activity.moved.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
    }
}

/// What happens in a tunnel.
#[derive(Default)]
struct Activity {
    /// Something was read since the last look.
    moved: AtomicBool,
    /// A side will send nothing more.
    closed: Notify,
}

/// Notes what is read.
struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            if buffer.filled().len() == before {
                self.activity.closed.notify_one();
            }
            self.activity.moved.store(true, Ordering::Relaxed);
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
