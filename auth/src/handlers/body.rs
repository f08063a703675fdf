//! JSON bodies as dojot's auth takes them.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use common::http::{
    Problem,
    json::{body, is_json},
};
use http_body_util::Limited;
use serde_json::Value;

/// Any JSON document of so many bytes at most. What it must contain is checked field by field, because the contract has an order.
/// Everybody may send some, and a parsed one is many times as large as its text.
pub(crate) struct Document<const MAX_BYTES: usize = 16_384>(pub(super) Value);

impl<S: Send + Sync, const MAX_BYTES: usize> FromRequest<S> for Document<MAX_BYTES> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        // Read in any case, so that the connection can be used again.
        let request = request.map(|body| Body::new(Limited::new(body, MAX_BYTES)));
        let body = body(request, state).await?;
        if !is_json {
            return Err(Problem::bad_request("invalid mimetype"));
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("malformed JSON: {error}")))
    }
}
