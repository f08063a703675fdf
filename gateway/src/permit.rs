//! What a decision was about, kept until the whole request is here: who was removed meanwhile is not obeyed any more.

use std::{sync::Arc, time::Duration};

use axum::http::Method;
use common::http::Caller;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use crate::{decide::Decider, error::Refusal};

/// A permit for a request whose body is still on its way.
pub(crate) struct Permit {
    pub(crate) decider: Arc<Decider>,
    pub(crate) token: String,
    pub(crate) method: Method,
    /// Normalised.
    pub(crate) path: String,
    pub(crate) caller: Arc<Caller>,
    /// Whether a good token is not enough.
    pub(crate) is_needed: bool,
    /// When it was given.
    pub(crate) given: Instant,
    /// How long it stands on its own.
    pub(crate) lasts: Duration,
}

impl Permit {
    /// Asks for the permit once more if it is old; `None` while it stands on its own.
    pub(crate) fn renew(self) -> Option<BoxFuture<'static, Result<(), Refusal>>> {
        if self.given.elapsed() <= self.lasts {
            return None;
        }
        let Self { decider, token, method, path, caller, is_needed, .. } = self;
        Some(async move { decider.confirm(&token, &method, &path, &caller, is_needed).await }.boxed())
    }
}
