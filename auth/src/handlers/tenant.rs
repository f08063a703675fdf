//! Tenants.

use axum::{Json, extract::State};
use common::http::{Problem, caller::ServiceCaller};
use serde_json::{Value, json};

use crate::storage::UserRepository;

/// Lists the tenants that have users (dojot-api.md 2.8), for our own services only.
pub(crate) async fn list_tenants(
    _: ServiceCaller,
    State(users): State<UserRepository>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "tenants": users.tenants().await? })))
}
