//! The connection below a websocket: counts what leaves, and can be cut.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::account::Account;

/// A stream whose writes are counted in an account, and which fails when the account is cut or when its peer takes
/// nothing for too long: the library would wait for such a peer for as long as its machine answers.
pub(super) struct Wire<S> {
    stream: S,
    account: Arc<Account>,
    /// One for the task that reads and one for the task that writes: each is woken by its own.
    cut_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writer: Pin<Box<WaitForCancellationFutureOwned>>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    /// `patience` is how long a write may wait.
    pub(super) fn new(stream: S, account: Arc<Account>, patience: Duration) -> Self {
        let cut = || Box::pin(account.is_cut().cancelled_owned());
        let (cut_reader, cut_writer) = (cut(), cut());
        Self { stream, account, cut_reader, cut_writer, patience, stalled: None }
    }
}

/// Fails when the account is cut; else sees to it that the task is woken by that.
fn check(cut: &mut Pin<Box<WaitForCancellationFutureOwned>>, context: &mut Context<'_>) -> io::Result<()> {
    if cut.as_mut().poll(context).is_ready() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(())
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        check(&mut self.cut_reader, context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        check(&mut self.cut_writer, context)?;
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.stalled = None;
            if let Ok(bytes) = written {
                self.account.written(bytes);
            }
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        self.account.cut();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.cut_writer, context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
