//! Tenants, for our own services only.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use common::{
    backoff::Backoff,
    http::{Problem, caller::ServiceCaller},
    wire::Tenant,
};
use serde::Serialize;

use crate::storage::{Removal, TenantRepository};

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
    let generations = tenants.list().await?;
    let removals = tenants.removals().await?;
    let names = generations.iter().map(|(name, _)| name.clone()).collect();
    Ok(Json(Listed { tenants: names, generations: generations.into_iter().collect(), removals }))
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
