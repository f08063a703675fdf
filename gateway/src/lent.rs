//! A body that comes back when nobody has read from it, so that another instance can have it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::{error::Refusal, upload::Upload};

/// Where a body comes back to. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Home(Arc<Mutex<Option<Upload>>>);

/// See the module.
pub(crate) struct Lent {
    /// There until it goes home.
    body: Option<Upload>,
    home: Option<Home>,
}

impl Home {
    /// The body, if it has come back.
    pub(crate) fn take(&self) -> Option<Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Lent {
    /// A body that comes back to `home`, if there is one.
    pub(crate) fn new(body: Upload, home: Option<Home>) -> Self {
        Self { body: Some(body), home }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        self.home = None;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            *home.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;

    fn body() -> Upload {
        Upload::new(Body::from("abc"), 10, Instant::now())
    }

    #[tokio::test]
    async fn what_was_read_from_does_not_come_back() {
        let home = Home::default();
        drop(Lent::new(body(), Some(home.clone())));
        let back = home.take().expect("nobody has read it");
        assert_eq!(back.collect().await.unwrap().to_bytes(), "abc");
        let mut lent = Lent::new(body(), Some(home.clone()));
        lent.frame().await.unwrap().unwrap();
        drop(lent);
        assert!(home.take().is_none());
    }
}
