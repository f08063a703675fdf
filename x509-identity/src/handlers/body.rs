//! Bodies, and the contract's answer to those of another form (dojot-connectors.md 2).

use axum::extract::{FromRequest, Request};
use common::http::{JsonBody, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A JSON body of the form `T`. Unknown members are ignored.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonBody(body) = JsonBody::<Value>::from_request(request, state).await?;
        serde_json::from_value(body).map(Self).map_err(|error| schema_failure(&error.to_string()))
    }
}

/// 400: JSON, but not what it should be.
pub(crate) fn schema_failure(reason: &str) -> Problem {
    Problem::bad_request("Input data schema validation failure.").detail(json!({ "schemaErrors": [reason] }))
}
