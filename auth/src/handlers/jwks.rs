//! The public keys of tokens.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use common::http::Problem;
use serde_json::{Value, json};

use super::{actor::Actor, changed};
use crate::{keys::KeyRing, storage::ChangeError};

/// Publishes the keys that verify tokens (RFC 7517).
pub(crate) async fn list_keys(
    State(keys): State<KeyRing>,
) -> Result<([(HeaderName, &'static str); 1], Json<Value>), Problem> {
    let keys = keys.published().await?;
    Ok(([(header::CACHE_CONTROL, "public, max-age=60")], Json(json!({ "keys": keys }))))
}

/// Makes a new key that signs from now on; nobody is logged out. Answers its name.
pub(crate) async fn rotate(
    Actor(mandate): Actor,
    State(keys): State<KeyRing>,
) -> Result<Json<Value>, Problem> {
    let kid = keys.rotate(&mandate).await.map_err(|error| match error {
        ChangeError::TooMany => Problem::new(
            StatusCode::CONFLICT,
            "The keys that are kept are still needed by tokens that they have signed; try again when some have expired",
        ),
        other => changed(other, |_| ""),
    })?;
    Ok(Json(json!({ "message": "ok", "status": 200, "kid": kid })))
}
