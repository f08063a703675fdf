//! What only our own services ask for.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use common::{
    clock::Clock,
    http::{Problem, caller::ServiceCaller},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use crate::{
    ca::CurrentAuthority,
    domain::{Fingerprint, Request, RequestError},
    storage::{
        authority::AuthorityRepository,
        certificates::{CertificateRepository, OwnedBy},
    },
};

/// Names a listener's certificate is for, beside those of its request.
#[derive(Debug, Deserialize)]
pub(crate) struct ServerCertificateIn {
    csr: String,
    #[serde(default)]
    hostnames: Vec<String>,
}

/// Signs the certificate of a listener. Its names are reserved from then on.
pub(crate) async fn issue_server_certificate(
    _: ServiceCaller,
    State(authority): State<CurrentAuthority>,
    State(repository): State<AuthorityRepository>,
    State(clock): State<Clock>,
    Body(body): Body<ServerCertificateIn>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let bad_request = |error: RequestError| Problem::bad_request(error.to_string());
    let mut request = Request::parse(&body.csr).map_err(bad_request)?;
    request.add_host_names(&body.hostnames).map_err(bad_request)?;
    // Before the certificate exists: no device that asks from now on gets its names.
    repository.reserve(&request.claimed_names()).await?;
    let issued = authority.issue(request, clock.now_ms()).await?;
    let body = json!({ "certificatePem": issued.pem, "caPem": authority.get()?.certificate_pem() });
    Ok((StatusCode::CREATED, Json(body)))
}

/// Tells which device a certificate identifies.
pub(crate) async fn get_owner(
    _: ServiceCaller,
    Path(fingerprint): Path<String>,
    State(certificates): State<CertificateRepository>,
) -> Result<Json<OwnedBy>, Problem> {
    let fingerprint =
        Fingerprint::parse(&fingerprint).ok_or_else(|| Problem::bad_request("not a fingerprint"))?;
    let owner = certificates.owner(&fingerprint).await?;
    owner.map(Json).ok_or_else(|| Problem::not_found("Not Found"))
}

/// Gives the authorities whose certificates device listeners accept.
pub(crate) async fn get_ca_bundle(
    _: ServiceCaller,
    State(authority): State<CurrentAuthority>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "pem": authority.get()?.certificate_pem() })))
}
