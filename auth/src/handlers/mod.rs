//! Handlers, one file per resource.

mod actor;
mod body;
mod client;
pub(crate) mod jwks;
pub(crate) mod login;
pub(crate) mod pdp;
pub(crate) mod tenant;
pub(crate) mod user;

use serde_json::{Value, json};

/// dojot's answer to what needs no other (dojot-api.md 2).
fn done(message: &str) -> axum::Json<Value> {
    axum::Json(json!({ "message": message, "status": 200 }))
}
