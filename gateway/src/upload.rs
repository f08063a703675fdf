//! The body of a request, from the client to a service. Knows whether the client or the service is to blame, and lets
//! the end pass only if the request is still permitted then.

use std::{
    error::Error,
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{error::Refusal, permit::Permit};

/// What the client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("request entity too large")]
    TooLarge,
    #[error("malformed chunked body")]
    Malformed,
    #[error("the body took too long")]
    TooSlow,
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

/// A body with a limit and a deadline.
pub(crate) struct Upload {
    body: Limited<Body>,
    /// What was read of it before anybody wanted it.
    ahead: Vec<u8>,
    /// What ends it, if that was read too.
    trailers: Option<Frame<Bytes>>,
    /// Whether the client has sent all of it.
    is_complete: bool,
    progress: Progress,
    deadline: Instant,
    /// There is one only when the body has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
    permit: Option<Permit>,
    held: Option<Held>,
    /// What the service may not take for a whole body, however often it is read.
    fault: Option<Refusal>,
}

/// The end of a body that waits for a decision. Without it no service acts: it is the frame that completes the length, or
/// the end of a chunked body with its trailers.
struct Held {
    frame: Option<Frame<Bytes>>,
    decision: BoxFuture<'static, Result<(), Refusal>>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Refusal>>>;

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

    /// A body of which `max_bytes` pass, until the deadline.
    pub(crate) fn new(body: Body, max_bytes: usize, deadline: Instant) -> Self {
        let has_body = !body.is_end_stream();
        let progress = Progress(has_body.then(Arc::default));
        let body = Limited::new(body, max_bytes);
        Self {
            body,
            ahead: Vec::new(),
            trailers: None,
            is_complete: !has_body,
            progress,
            deadline,
            timer: None,
            permit: None,
            held: None,
            fault: None,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The end passes only if the permit stands then.
    pub(crate) fn hold_end(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Waits until the body is here, or more of it than `enough` bytes. What was read is kept: whoever reads the body gets it
    /// first, and its end is held back as before.
    pub(crate) async fn read_ahead(&mut self, enough: usize) -> Result<(), Refusal> {
        while self.ahead.len() <= enough && !self.is_complete {
            let Some(frame) = poll_fn(|context| self.poll_body(context)).await else { break };
            match frame?.into_data() {
                // Copied: a frame is as costly as its buffer, however little is in it.
                Ok(data) => self.ahead.extend_from_slice(&data),
                Err(trailers) => self.trailers = Some(trailers),
            }
        }
        Ok(())
    }

    /// What [`Upload::read_ahead`] has read.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// What comes next, from what was read ahead or from the client.
    fn poll_client(&mut self, context: &mut Context<'_>) -> Polled {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.ahead).into()))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        self.poll_body(context)
    }

    /// What comes next from the client. One that drips is not waited for beyond the deadline.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Polled {
        if self.is_complete {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.is_complete = match &frame {
                None => true,
                Some(Ok(frame)) => frame.is_trailers() || self.body.is_end_stream(),
                Some(Err(_)) => false,
            };
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| UploadError::of(&*error).into())));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.deadline)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(UploadError::TooSlow.into())))
    }

    /// Whether nothing that a service needs comes after this.
    fn is_end(&self, frame: Option<&Frame<Bytes>>) -> bool {
        frame.is_none_or(|_| self.is_read())
    }

    /// Whether nothing is left, neither here nor with the client.
    fn is_read(&self) -> bool {
        self.ahead.is_empty() && self.trailers.is_none() && self.is_complete
    }

    fn poll_permitted(&mut self, context: &mut Context<'_>) -> Polled {
        let mut held = if let Some(held) = self.held.take() {
            held
        } else {
            let frame = match ready!(self.poll_client(context)).transpose() {
                Ok(frame) => frame,
                Err(refusal) => return Poll::Ready(Some(Err(refusal))),
            };
            if !self.is_end(frame.as_ref()) {
                return Poll::Ready(frame.map(Ok));
            }
            let Some(decision) = self.permit.take().and_then(Permit::renew) else {
                self.progress.end();
                return Poll::Ready(frame.map(Ok));
            };
            Held { frame, decision }
        };
        match held.decision.poll_unpin(context) {
            Poll::Pending => {
                self.held = Some(held);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                self.progress.end();
                Poll::Ready(held.frame.map(Ok))
            }
            Poll::Ready(Err(refusal)) => Poll::Ready(Some(Err(refusal))),
        }
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
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        if let Some(fault) = &self.fault {
            return Poll::Ready(Some(Err(fault.clone())));
        }
        let frame = ready!(self.poll_permitted(context));
        if let Some(Err(refusal)) = &frame {
            self.fault = Some(refusal.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.fault.is_none() && self.is_read()
    }

    fn size_hint(&self) -> SizeHint {
        let (ahead, left) = (self.ahead.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower().saturating_add(ahead));
        if let Some(upper) = left.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

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
            let upload = Upload::new(body, usize::MAX, far());
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
            let refusal = Upload::new(body, 10, far()).collect().await.err();
            assert!(matches!(refusal, Some(Refusal::Body(error)) if error == expected), "{refusal:?}");
        }
    }
}
