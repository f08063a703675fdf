//! A connection's bytes, plain or encrypted.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

/// A connection to a client.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Stream {
    /// How much is read at a time.
    const CHUNK: usize = 8 * 1024;

    /// Reads what is there and appends it to `input`; 0 is the end.
    ///
    /// It goes through the stack, so that a connection that waits holds no read buffer. The copy of some hundred
    /// bytes costs less than a buffer of some kilobytes for each of a million connections.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut chunk = [const { MaybeUninit::<u8>::uninit() }; Self::CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut chunk),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut chunk),
        })?;
        let read = chunk.filled();
        // Some bytes more than needed: the codec reserves them after each packet, and would move to a new buffer.
        input.reserve(read.len() + 8);
        input.extend_from_slice(read);
        Poll::Ready(Ok(read.len()))
    }

    /// Writes as much of `out` as the connection takes; ready when all is written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let written = ready!(match self {
                Self::Plain(stream) => Pin::new(stream).poll_write(cx, out),
                Self::Tls(stream) => Pin::new(stream).poll_write(cx, out),
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.advance(written);
        }
        // An idle connection keeps no write buffer.
        *out = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Says goodbye to the transport.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
