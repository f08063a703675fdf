//! What only our own services ask for.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use common::{
    clock::Clock,
    http::{JsonBody, Problem, caller::ServiceCaller},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ca::CurrentAuthority,
    config::Config,
    domain::{Fingerprint, Request},
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
    State(config): State<Arc<Config>>,
    State(authority): State<CurrentAuthority>,
    State(repository): State<AuthorityRepository>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<ServerCertificateIn>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let request = Request::parse(&body.csr).map_err(|error| Problem::bad_request(error.to_string()))?;
    let mut names = request.host_names.clone();
    names.extend(body.hostnames.iter().map(|name| name.to_lowercase()));
    repository.reserve(&names).await?;
    let (days, now_ms) = (config.certificate_validity_days, clock.now_ms());
    let issued = authority.sign(move |authority| authority.issue(&request, days, now_ms)).await?;
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
