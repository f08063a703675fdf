//! The platform's authority, for tenants.

use axum::{Json, extract::State};
use common::{
    clock::Clock,
    http::{Caller, Problem},
};
use serde_json::{Value, json};

use crate::{ca::CurrentAuthority, storage::authority::AuthorityRepository};

/// Shows the certificate that devices have to trust.
pub(crate) async fn get_ca(
    _: Caller,
    State(authority): State<CurrentAuthority>,
) -> Result<Json<Value>, Problem> {
    let authority = authority.get()?;
    Ok(Json(json!({
        "certificateFingerprint": authority.fingerprint().as_str(),
        "caPem": authority.certificate_pem(),
    })))
}

/// Shows what is revoked, as of now.
pub(crate) async fn get_crl(
    _: Caller,
    State(authority): State<CurrentAuthority>,
    State(repository): State<AuthorityRepository>,
    State(clock): State<Clock>,
) -> Result<Json<Value>, Problem> {
    let now_ms = clock.now_ms();
    let revoked = repository.revoked(now_ms).await?;
    Ok(Json(json!({ "crl": authority.revocation_list(revoked, now_ms).await? })))
}
