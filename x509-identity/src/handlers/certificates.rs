//! Certificates of a tenant (dojot-connectors.md 2.3).

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use common::{
    clock::Clock,
    http::{Caller, Problem},
    wire::{DeviceId, Tenant},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{Body, schema_failure};
use crate::{
    ca::CurrentAuthority,
    devices::Devices,
    domain::{
        Fingerprint, Request,
        names::first_conflict,
        query::{Fields, ListQuery},
    },
    storage::{authority::AuthorityRepository, certificates::CertificateRepository},
};

/// A request for a new certificate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateIn {
    csr: Option<String>,
    certificate_chain: Option<String>,
    belongs_to: Option<OwnerIn>,
}

/// A change of the owner.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnerChange {
    belongs_to: OwnerIn,
}

/// The owner that a certificate should have. A member that is null is not the same as none.
type OwnerIn = Map<String, Value>;

/// Parameters of a query string, in their order.
type Parameters = Query<Vec<(String, String)>>;

/// Signs a certificate signing request, for a device if it says so.
pub(crate) async fn issue_certificate(
    Caller { tenant, generation, .. }: Caller,
    State(authority): State<CurrentAuthority>,
    State(names): State<AuthorityRepository>,
    State(devices): State<Devices>,
    State(certificates): State<CertificateRepository>,
    State(clock): State<Clock>,
    Body(body): Body<CertificateIn>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let device = body.belongs_to.as_ref().map_or(Ok(None), owner)?;
    let csr = only_csr(body.csr, body.certificate_chain)?;
    let request = Request::parse(&csr).map_err(|error| Problem::bad_request(error.to_string()))?;
    if let Some(name) = first_conflict(&request.claimed_names(), &names.reserved_names().await?) {
        return Err(Problem::bad_request(format!("The name '{name}' is used by the platform itself.")));
    }
    devices.require(&tenant, device.as_ref()).await?;
    let now_ms = clock.now_ms();
    let issued = authority.issue(request, now_ms).await?;
    certificates.insert(&tenant, generation, &issued, device.as_ref(), now_ms).await?;
    let body = json!({ "certificateFingerprint": issued.fingerprint.as_str(), "certificatePem": issued.pem });
    Ok((StatusCode::CREATED, Json(body)))
}

/// Lists the certificates of the tenant, a page at a time.
pub(crate) async fn list_certificates(
    Caller { tenant, .. }: Caller,
    State(certificates): State<CertificateRepository>,
    Query(parameters): Parameters,
) -> Result<Json<Value>, Problem> {
    let query = ListQuery::parse(&parameters).map_err(|error| Problem::bad_request(error.to_string()))?;
    let (found, total) = certificates.list(&tenant, &query.conditions, query.offset(), query.limit).await?;
    let page: Vec<Value> = found.iter().map(|certificate| query.fields.of(json!(certificate))).collect();
    Ok(Json(json!({ "paging": query.paging(total), "certificates": page })))
}

/// Shows one certificate.
pub(crate) async fn get_certificate(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(certificates): State<CertificateRepository>,
    Query(parameters): Parameters,
) -> Result<Json<Value>, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let fields = Fields::parse(&parameters).map_err(|error| Problem::bad_request(error.to_string()))?;
    let found = certificates.lookup(&tenant, &fingerprint).await?;
    let found = found.ok_or_else(|| unknown(&tenant, &fingerprint))?;
    Ok(Json(fields.of(json!(found))))
}

/// Changes the owner of a certificate.
pub(crate) async fn change_owner(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(devices): State<Devices>,
    State(certificates): State<CertificateRepository>,
    State(clock): State<Clock>,
    Body(body): Body<OwnerChange>,
) -> Result<StatusCode, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let device = owner(&body.belongs_to)?;
    devices.require(&tenant, device.as_ref()).await?;
    let exists = certificates.set_device(&tenant, &fingerprint, device.as_ref(), clock.now_ms()).await?;
    if exists { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&tenant, &fingerprint)) }
}

/// Takes a certificate from its owner.
pub(crate) async fn remove_owner(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(certificates): State<CertificateRepository>,
    State(clock): State<Clock>,
) -> Result<StatusCode, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let exists = certificates.set_device(&tenant, &fingerprint, None, clock.now_ms()).await?;
    if exists { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&tenant, &fingerprint)) }
}

/// Revokes a certificate and forgets it.
pub(crate) async fn revoke_certificate(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(certificates): State<CertificateRepository>,
    State(clock): State<Clock>,
) -> Result<StatusCode, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let existed = certificates.revoke(&tenant, &fingerprint, clock.now_ms()).await?;
    if existed { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&tenant, &fingerprint)) }
}

fn parse(fingerprint: &str) -> Result<Fingerprint, Problem> {
    Fingerprint::parse(fingerprint).ok_or_else(|| schema_failure("the fingerprint must be 32 hex pairs"))
}

fn unknown(tenant: &Tenant, fingerprint: &Fingerprint) -> Problem {
    let filter = json!({ "fingerprint": fingerprint.as_str(), "tenant": tenant });
    Problem::not_found(format!("No records found for the following parameters: {filter}"))
}

fn only_csr(csr: Option<String>, chain: Option<String>) -> Result<String, Problem> {
    match (csr, chain) {
        (Some(csr), None) => Ok(csr),
        (None, Some(_)) => Err(schema_failure("external certificates cannot be registered yet, send a csr")),
        _ => Err(schema_failure("must have exactly one of: csr, certificateChain")),
    }
}

fn owner(owner: &OwnerIn) -> Result<Option<DeviceId>, Problem> {
    match (owner.get("device"), owner.get("application")) {
        (Some(_), Some(_)) => {
            Err(Problem::bad_request("The certificate must belong to only one type of owner."))
        }
        (None, Some(_)) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Operations on certificates for applications are not authorized through this endpoint.",
        )),
        (None, None) => Err(schema_failure("belongsTo must have exactly one of: device, application")),
        (Some(Value::Null), None) => Ok(None),
        (Some(Value::String(device)), None) => {
            DeviceId::parse(device).map(Some).map_err(|error| schema_failure(&error.to_string()))
        }
        (Some(_), None) => Err(schema_failure("belongsTo.device must be a string or null")),
    }
}
