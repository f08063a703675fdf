//! Tenants: which there are, and the end of the topics of those that go.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use common::{
    backoff::Backoff,
    engine::{Engines, EventLog, event_log::LogError},
    http::client::{CallError, InternalClient},
    tenancy::{self, TenantChange, Topics, Turn},
    wire::Tenant,
};
use tracing::warn;

use crate::SERVICE;

/// The tenants that exist. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tenants {
    client: InternalClient,
    known: Arc<RwLock<BTreeSet<Tenant>>>,
}

impl Tenants {
    pub(crate) fn new(client: InternalClient) -> Self {
        Self { client, known: Arc::default() }
    }

    /// Whether a tenant exists: from memory, or else auth is asked, for it may have come this moment.
    pub(crate) async fn has(&self, tenant: &Tenant) -> Result<bool, CallError> {
        if tenant.is_management() || self.knows(tenant) {
            return Ok(true);
        }
        Ok(tenancy::list(&self.client, SERVICE).await?.contains(tenant))
    }

    fn knows(&self, tenant: &Tenant) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    fn note(&self, change: &TenantChange) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            TenantChange::Created(tenant) => _ = known.insert(tenant.clone()),
            TenantChange::Removed(tenant) | TenantChange::Missing(tenant) => _ = known.remove(tenant),
            TenantChange::Purge(_) => {}
        }
    }

    /// Keeps the list, and deletes the topics of tenants that go when nobody writes to them any more. For ever.
    /// `removed` ends what lives of one.
    pub(crate) async fn follow(self, engines: Engines, removed: impl Fn(&Tenant) + Send) {
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let mut changes = tenancy::follow(&engines, topics, SERVICE, Turn::Last);
        while let Some(change) = changes.recv().await {
            self.note(&change);
            if let TenantChange::Removed(tenant) = &change {
                removed(tenant);
            }
            if let TenantChange::Purge(removal) = change {
                let (log, tenant) = (engines.log.clone(), removal.tenant().clone());
                removal.carry_out(&engines.shutdown, async move { delete_all(&log, &tenant).await });
            }
        }
    }
}

/// Deletes the topics of a tenant; tries until there are none.
async fn delete_all(log: &EventLog, tenant: &Tenant) {
    let mut backoff = Backoff::default();
    while let Err(error) = delete_topics(log, tenant).await {
        warn!(%tenant, %error, "the topics of a removed tenant cannot be deleted for the moment");
        backoff.wait().await;
    }
}

async fn delete_topics(log: &EventLog, tenant: &Tenant) -> Result<(), LogError> {
    for topic in log.topics_of(tenant).await? {
        log.delete_topic(&topic).await?;
    }
    Ok(())
}
