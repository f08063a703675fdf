//! Tenants: for our own services, and for those who manage the platform.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use common::{
    backoff::Backoff,
    http::{Problem, caller::ServiceCaller},
    wire::Tenant,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{actor::Actor, body::Document, changed, done, not_allowed};
use crate::{
    access::AccessCache,
    domain::{bootstrap::ADMIN, user::Scope},
    storage::{ChangeError, Existing, Mandate, Removal, TenantChanges, TenantRepository},
};

/// `tenants` is the contract's (dojot-api.md 2.8), the rest is ours.
#[derive(Serialize)]
pub(crate) struct Listed {
    tenants: Vec<String>,
    generations: BTreeMap<String, i64>,
    removals: Vec<Removal>,
}

/// Lists the tenants that have users, and those that are gone and of which services still keep data.
pub(crate) async fn list_tenants(
    _: ServiceCaller,
    State(tenants): State<TenantRepository>,
) -> Result<Json<Listed>, Problem> {
    // In this order: a tenant that goes in between is in both lists and not in none.
    let existing = tenants.list(&Scope::AllTenants).await?;
    let removals = tenants.removals(&Scope::AllTenants).await?;
    let names = existing.iter().map(|tenant| tenant.name.clone()).collect();
    let generations = existing.into_iter().map(|tenant| (tenant.name, tenant.generation)).collect();
    Ok(Json(Listed { tenants: names, generations, removals }))
}

/// What a caller may know of tenants: all, or the own one.
#[derive(Serialize)]
pub(crate) struct Overview {
    tenants: Vec<Existing>,
    /// Those that are gone, with the services that still keep data of them.
    removals: Vec<Removal>,
}

/// Lists tenants, and those that are being removed.
pub(crate) async fn overview(
    Actor(mandate): Actor,
    State(tenants): State<TenantRepository>,
) -> Result<Json<Overview>, Problem> {
    let existing = tenants.list(&mandate.scope).await?;
    Ok(Json(Overview { tenants: existing, removals: tenants.removals(&mandate.scope).await? }))
}

/// Shows a tenant: that it is there, or that it is being removed and who still has to.
pub(crate) async fn get_tenant(
    Actor(mandate): Actor,
    Path(tenant): Path<String>,
    State(tenants): State<TenantRepository>,
) -> Result<Json<Value>, Problem> {
    let tenant = visible(&mandate, &tenant)?;
    let only = Scope::Only(tenant);
    if let [existing] = &tenants.list(&only).await?[..] {
        return Ok(Json(json!({ "tenant": existing })));
    }
    match &tenants.removals(&only).await?[..] {
        [removal, ..] => Ok(Json(json!({ "removal": removal }))),
        [] => Err(unknown()),
    }
}

/// Makes a tenant that stays without users.
pub(crate) async fn create_tenant(
    Actor(mandate): Actor,
    State(tenants): State<TenantRepository>,
    State(changes): State<TenantChanges>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let name = match body.get("tenant") {
        None | Some(Value::Null) => return Err(Problem::bad_request("Missing tenant")),
        Some(name) => name.as_str().unwrap_or_default(),
    };
    let tenant = Tenant::parse(name)
        .map_err(|error| Problem::bad_request(format!("Invalid tenant: it must be {}", error.rule)))?;
    wait_until_free(&tenants, &tenant).await?;
    changes.create(&mandate, &tenant).await.map_err(|error| match error {
        ChangeError::Already => {
            Problem::new(StatusCode::CONFLICT, format!("There is a tenant {tenant} already"))
        }
        other => changed(other, |_| UNKNOWN),
    })?;
    Ok(done("tenant created"))
}

/// What `DELETE /tenants/{tenant}` asks for.
#[derive(Deserialize)]
pub(crate) struct Confirmation {
    #[serde(default)]
    confirm: String,
}

/// Removes a tenant with its users. What the services keep of it goes in the background: 202.
pub(crate) async fn remove_tenant(
    Actor(mandate): Actor,
    Path(name): Path<String>,
    Query(Confirmation { confirm }): Query<Confirmation>,
    State(tenants): State<TenantRepository>,
    State(changes): State<TenantChanges>,
    State(access): State<AccessCache>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let tenant = visible(&mandate, &name)?;
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    if tenant.as_str() == ADMIN {
        return Err(not_allowed("Can't remove the tenant admin"));
    }
    let Some(existing) = tenants.list(&Scope::Only(tenant.clone())).await?.pop() else {
        return Err(unknown());
    };
    if confirm != tenant.as_str() {
        return Err(Problem::bad_request(format!(
            "Removes tenant {tenant}, its users ({}) and everything it has; confirm with ?confirm={tenant}",
            existing.users
        )));
    }
    let _change = access.change(None);
    changes.remove(&mandate, &tenant).await.map_err(|error| changed(error, |_| UNKNOWN))?;
    let removal = tenants.removals(&Scope::Only(tenant)).await?.pop();
    let answer = json!({ "message": "tenant is being removed", "status": 202, "removal": removal });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

const UNKNOWN: &str = "Unknown tenant";

fn unknown() -> Problem {
    Problem::not_found(UNKNOWN)
}

/// The tenant that a path names, if it is one whom the caller may see.
fn visible(mandate: &Mandate, name: &str) -> Result<Tenant, Problem> {
    let tenant = Tenant::parse(name).map_err(|_| unknown())?;
    if mandate.scope.includes(&tenant) { Ok(tenant) } else { Err(unknown()) }
}

/// Notes that the calling service keeps nothing more of a tenant that is gone.
pub(crate) async fn confirm_removal(
    ServiceCaller(caller): ServiceCaller,
    Path((tenant, generation)): Path<(Tenant, i64)>,
    State(tenants): State<TenantRepository>,
) -> Result<StatusCode, Problem> {
    tenants.confirm(&tenant, generation, &caller.user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Waits until the name of a tenant is not that of one which is still being removed: a moment, as long as all services
/// run. Says 503 with those that are missing when it takes longer.
pub(super) async fn wait_until_free(tenants: &TenantRepository, tenant: &Tenant) -> Result<(), Problem> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut backoff = Backoff::up_to(Duration::from_millis(250));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let services = tenants.waiting_for(tenant).await?;
        if services.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(is_being_removed(tenant, &services));
        }
        backoff.wait().await;
    }
}

fn is_being_removed(tenant: &Tenant, services: &[String]) -> Problem {
    let services = services.join(", ");
    let message = format!(
        "The former tenant {tenant} is still being removed; waiting for {services}. Try again in a moment."
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
