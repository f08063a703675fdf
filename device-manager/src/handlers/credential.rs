//! User names and passwords of devices (dojot-connectors.md 4.4).

use axum::{
    Json,
    extract::{Path, State},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use common::{
    http::{Caller, JsonBody, caller::ServiceCaller},
    wire::DeviceId,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    domain::credential::{generate_password, hash, parse_user_name, user_name, verify},
    error::Error,
    events,
    storage::Store,
};

/// Sets or replaces the password of a device. It is shown here and never again.
pub(crate) async fn create_credential(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let id = DeviceId::parse(&id).map_err(|_| Error::InvalidDevice)?;
    let password = generate_password();
    let hash = hash(&password).map_err(Error::internal)?;
    let mut change = store.change(&tenant, generation).await?;
    let issued_ms = change.put_credential(&id, &hash).await?.ok_or(Error::InvalidDevice)?;
    change.publish(vec![events::credential(&tenant, id.as_str(), "create", issued_ms)?]).await?;
    change.commit().await?;
    let username = user_name(&tenant, &id);
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
    Ok(Json(json!({
        "credentials": { "username": username, "password": password },
        "basicAuth": basic,
    })))
}

#[derive(Deserialize)]
pub(crate) struct Login {
    username: String,
    password: String,
}

/// Tells an agent whether a device is what it says, and when the password was issued: the event that announces a password
/// carries the same time, so the agent can tell sessions with this one from sessions with an older one. The hash takes a tenth of a millisecond, see
/// [`crate::domain::credential`], so it is computed here and not on another thread.
pub(crate) async fn authenticate_device(
    ServiceCaller(_): ServiceCaller,
    State(store): State<Store>,
    JsonBody(login): JsonBody<Login>,
) -> Result<Json<Value>, Error> {
    let named = parse_user_name(&login.username);
    let stored = match &named {
        Some((tenant, device)) => store.credential(tenant, device).await?,
        None => None,
    };
    let is_valid = verify(&login.password, stored.as_ref().map(|stored| stored.hash.as_str()));
    match (named, stored) {
        (Some((tenant, device)), Some(stored)) if is_valid => Ok(Json(json!({
            "message": "The credential is valid.",
            "tenant": tenant,
            "device": device,
            "issued": stored.issued_ms,
            "generation": stored.generation,
        }))),
        _ => Err(Error::InvalidCredential),
    }
}
