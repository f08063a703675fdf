//! The body of a request, from the client to a service. Knows whether the client or the service is to blame.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};

/// What the client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("request entity too large")]
    TooLarge,
    #[error("malformed chunked body")]
    Malformed,
    #[error("the body ended too early")]
    BrokenOff,
}

impl UploadError {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut chain = std::iter::successors(Some(error), |error| (*error).source());
        let known = chain.find_map(|error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Some(Self::Malformed),
            Some(_) => Some(Self::BrokenOff),
            None => error.is::<LengthLimitError>().then_some(Self::TooLarge),
        });
        known.unwrap_or(Self::BrokenOff)
    }
}

/// A body with a limit.
pub(crate) struct Upload {
    body: Limited<Body>,
    progress: Progress,
}

/// How far a body has been read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress(Option<Arc<AtomicBool>>);

impl Progress {
    /// Whether something of the body is left. The connection cannot be used again then.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.as_ref().is_some_and(|has_ended| !has_ended.load(Ordering::Acquire))
    }

    fn end(&self) {
        if let Some(has_ended) = &self.0 {
            has_ended.store(true, Ordering::Release);
        }
    }
}

impl Upload {
    /// What is read of a body that nobody wants.
    const DRAIN_BYTES: usize = 64 * 1024;
    /// How long that may take: clients send body and head at once.
    const DRAIN_TIME: Duration = Duration::from_secs(1);

    /// A body of which `max_bytes` pass.
    pub(crate) fn new(body: Body, max_bytes: usize) -> Self {
        let has_body = !body.is_end_stream();
        let progress = Progress(has_body.then(Arc::default));
        Self { body: Limited::new(body, max_bytes), progress }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::new(Body::empty(), 0)
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Reads a small body to its end, so that the connection can be used for another request.
    pub(crate) async fn drain(mut self) {
        let is_small = |length: u64| length <= Self::DRAIN_BYTES as u64;
        if !(self.progress.is_unread() && is_small(self.size_hint().lower())) {
            return;
        }
        let read = async {
            let mut left = Self::DRAIN_BYTES;
            while let Some(Ok(frame)) = self.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(length) else { return };
                left = rest;
            }
        };
        // What is left after that shows in the progress.
        let _ = tokio::time::timeout(Self::DRAIN_TIME, read).await;
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || matches!(&frame, Some(Ok(_)) if self.body.is_end_stream()) {
            self.progress.end();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| UploadError::of(&*error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunks(sizes: &[usize]) -> Body {
        let sizes: Vec<_> =
            sizes.iter().map(|size| Ok::<_, io::Error>(Bytes::from(vec![0; *size]))).collect();
        Body::from_stream(stream::iter(sizes))
    }

    #[tokio::test]
    async fn small_bodies_are_drained() {
        const LIMIT: usize = Upload::DRAIN_BYTES;
        for (body, is_unread) in [
            (Body::empty(), false),
            (Body::from("abc"), false),
            (Body::from(vec![0; LIMIT]), false),
            (Body::from(vec![0; LIMIT + 1]), true),
            (chunks(&[1, 2, 3]), false),
            (chunks(&[LIMIT]), false),
            (chunks(&[LIMIT, 1]), true),
            (Body::from_stream(stream::pending::<io::Result<Bytes>>()), true),
            (Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("x"))])), true),
        ] {
            let upload = Upload::new(body, usize::MAX);
            let progress = upload.progress();
            let hint = upload.size_hint();
            upload.drain().await;
            assert_eq!(progress.is_unread(), is_unread, "{hint:?}");
        }
    }

    #[tokio::test]
    async fn the_client_is_told_what_it_did_wrong() {
        let error = |kind| Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::from(kind))]));
        for (body, expected) in [
            (chunks(&[8, 3]), UploadError::TooLarge),
            (error(io::ErrorKind::InvalidInput), UploadError::Malformed),
            (error(io::ErrorKind::InvalidData), UploadError::Malformed),
            (error(io::ErrorKind::UnexpectedEof), UploadError::BrokenOff),
            (error(io::ErrorKind::ConnectionReset), UploadError::BrokenOff),
        ] {
            assert_eq!(Upload::new(body, 10).collect().await.err(), Some(expected));
        }
    }
}
