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
    time::{Instant, Sleep, sleep_until},
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
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::live::account::Accounts;

    fn account() -> Arc<Account> {
        Accounts::new(100, 1, 1).open(&common::wire::Tenant::management()).unwrap()
    }

    #[tokio::test]
    async fn what_is_written_waits_no_more_and_a_peer_that_takes_nothing_is_cut() {
        let (near, mut far) = duplex(64);
        let account = account();
        let mut wire = Wire::new(near, Arc::clone(&account), Duration::from_millis(100));
        assert!(account.charge(100));
        wire.write_all(&[0; 64]).await.unwrap();
        assert!(account.charge(64), "64 bytes have left");
        far.read_exact(&mut [0; 64]).await.unwrap();
        let error = wire.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = wire.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_reader_is_woken_when_the_account_is_cut() {
        let (near, _far) = duplex(64);
        let account = account();
        let mut wire = Wire::new(near, Arc::clone(&account), Duration::from_mins(1));
        let (read, ()) = tokio::join!(wire.read_u8(), async { account.cut() });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
