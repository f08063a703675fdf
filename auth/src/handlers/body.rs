//! JSON bodies as dojot's auth takes them.

use axum::extract::{FromRequest, Request};
use common::http::{
    Problem,
    json::{body, is_json},
};
use serde_json::Value;

/// Any JSON document. What it must contain is checked field by field, because the contract has an order.
pub(crate) struct Document(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        // Read in any case, so that the connection can be used again.
        let body = body(request, state).await?;
        if !is_json {
            return Err(Problem::bad_request("invalid mimetype"));
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("malformed JSON: {error}")))
    }
}
