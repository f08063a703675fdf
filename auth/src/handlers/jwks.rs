//! The public keys of tokens.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use serde_json::{Value, json};

use crate::keys::KeyRing;

/// Publishes the keys that verify tokens (RFC 7517).
pub(crate) async fn list_keys(State(keys): State<KeyRing>) -> ([(HeaderName, &'static str); 1], Json<Value>) {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(json!({ "keys": keys.published() })))
}
