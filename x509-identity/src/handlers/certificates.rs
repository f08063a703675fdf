//! Certificates of a tenant (dojot-connectors.md 2.3).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use common::{
    clock::Clock,
    http::{
        Caller, JsonBody, Problem,
        client::{CallError, InternalClient, Service},
    },
    wire::{DeviceId, Tenant},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    SERVICE,
    ca::CurrentAuthority,
    config::Config,
    domain::{Fingerprint, Request},
    storage::{
        authority::AuthorityRepository,
        certificates::{Certificate, CertificateRepository},
    },
};

const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 250;

/// A request for a new certificate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateIn {
    csr: Option<String>,
    certificate_chain: Option<String>,
    belongs_to: Option<OwnerIn>,
}

/// The owner that a certificate should have.
#[derive(Debug, Deserialize)]
pub(crate) struct OwnerIn {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    application: Option<String>,
}

/// A change of the owner.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnerChange {
    belongs_to: OwnerIn,
}

/// Which page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    page: Option<String>,
    limit: Option<String>,
}

/// Signs a certificate signing request, for a device if it says so.
pub(crate) async fn issue_certificate(
    Caller { tenant, .. }: Caller,
    State(config): State<Arc<Config>>,
    State(authority): State<CurrentAuthority>,
    State(names): State<AuthorityRepository>,
    State(certificates): State<CertificateRepository>,
    State(client): State<InternalClient>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<CertificateIn>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let csr = match (body.csr, body.certificate_chain) {
        (Some(csr), None) => csr,
        (None, Some(_)) => {
            return Err(schema_failure("external certificates cannot be registered yet, send a csr"));
        }
        _ => return Err(schema_failure("must have exactly one of: csr, certificateChain")),
    };
    let request = Request::parse(&csr).map_err(|error| Problem::bad_request(error.to_string()))?;
    if let Some(name) = names.first_reserved(&request.host_names).await? {
        return Err(Problem::bad_request(format!("The name '{name}' is used by the platform itself.")));
    }
    let device = owner(body.belongs_to)?;
    if let (Some(device), true) = (&device, config.check_device_exists) {
        require_device(&client, &tenant, device).await?;
    }
    let (days, now_ms) = (config.certificate_validity_days, clock.now_ms());
    let issued = authority.sign(move |authority| authority.issue(&request, days, now_ms)).await?;
    certificates.insert(&tenant, &issued, device.as_ref(), now_ms).await?;
    let body = json!({ "certificateFingerprint": issued.fingerprint.as_str(), "certificatePem": issued.pem });
    Ok((StatusCode::CREATED, Json(body)))
}

/// Lists the certificates of the tenant, a page at a time.
pub(crate) async fn list_certificates(
    Caller { tenant, .. }: Caller,
    State(certificates): State<CertificateRepository>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let number = positive(page.page.as_deref(), "page", 1)?;
    let limit = positive(page.limit.as_deref(), "limit", DEFAULT_LIMIT)?.min(MAX_LIMIT);
    let (found, total) = certificates.list(&tenant, (number - 1).saturating_mul(limit), limit).await?;
    let pages = total.div_euclid(limit) + i64::from(total % limit > 0);
    let link = |number: i64| {
        let exists = (1..=pages.max(1)).contains(&number);
        exists.then(|| json!({ "number": number, "url": format!("/x509/v1/certificates?limit={limit}&page={number}") }))
    };
    Ok(Json(json!({
        "paging": {
            "previous": link(number - 1),
            "current": link(number),
            "next": link(number + 1),
            "totalItems": total,
            "totalPages": pages,
            "limitPerPage": limit,
        },
        "certificates": found,
    })))
}

/// Shows one certificate.
pub(crate) async fn get_certificate(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(certificates): State<CertificateRepository>,
) -> Result<Json<Certificate>, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let found = certificates.lookup(&tenant, &fingerprint).await?;
    found.map(Json).ok_or_else(|| unknown(&tenant, &fingerprint))
}

/// Changes the owner of a certificate.
pub(crate) async fn change_owner(
    Caller { tenant, .. }: Caller,
    Path(fingerprint): Path<String>,
    State(config): State<Arc<Config>>,
    State(certificates): State<CertificateRepository>,
    State(client): State<InternalClient>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<OwnerChange>,
) -> Result<StatusCode, Problem> {
    let fingerprint = parse(&fingerprint)?;
    let device = owner(Some(body.belongs_to))?;
    if let (Some(device), true) = (&device, config.check_device_exists) {
        require_device(&client, &tenant, device).await?;
    }
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

fn schema_failure(reason: &str) -> Problem {
    Problem::bad_request("Input data schema validation failure.").detail(json!({ "schemaErrors": [reason] }))
}

fn unknown(tenant: &Tenant, fingerprint: &Fingerprint) -> Problem {
    let filter = json!({ "fingerprint": fingerprint.as_str(), "tenant": tenant });
    Problem::not_found(format!("No records found for the following parameters: {filter}"))
}

fn owner(owner: Option<OwnerIn>) -> Result<Option<DeviceId>, Problem> {
    match owner {
        None | Some(OwnerIn { device: None, application: None }) => Ok(None),
        Some(OwnerIn { device: Some(_), application: Some(_) }) => {
            Err(Problem::bad_request("The certificate must belong to only one type of owner."))
        }
        Some(OwnerIn { application: Some(_), .. }) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Operations on certificates for applications are not authorized through this endpoint.",
        )),
        Some(OwnerIn { device: Some(device), .. }) => {
            DeviceId::parse(&device).map(Some).map_err(|error| schema_failure(&error.to_string()))
        }
    }
}

async fn require_device(client: &InternalClient, tenant: &Tenant, device: &DeviceId) -> Result<(), Problem> {
    let caller = Caller::service(SERVICE, tenant);
    match client.get::<Value>(Service::DeviceManager, &format!("/device/{device}"), &caller).await {
        Ok(_) => Ok(()),
        Err(CallError::Refused { status, .. }) if status.as_u16() == 404 => Err(Problem::bad_request(
            format!("Device identifier '{device}' was not found for tenant '{tenant}'."),
        )),
        Err(error) => {
            tracing::warn!(%error, "a device cannot be looked up");
            Err(Problem::new(
                StatusCode::BAD_GATEWAY,
                "Could not connect to the Device Manager service to validate the device identifier.",
            ))
        }
    }
}

fn positive(text: Option<&str>, name: &str, default: i64) -> Result<i64, Problem> {
    let Some(text) = text else { return Ok(default) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Problem::bad_request(format!("The parameter '{name}' must be a positive integer."))),
    }
}
