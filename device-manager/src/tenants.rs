//! Tenants that are gone: their devices and templates go too, in the background.

use common::{
    backoff::Backoff,
    engine::Engines,
    tenancy::{self, TenantChange, Topics},
};
use tracing::{info, warn};

use crate::{SERVICE, storage::Store};

/// Follows the tenants until the end is asked for.
pub(crate) fn start(engines: &Engines, topics: Topics, store: Store) {
    let mut changes = tenancy::follow(engines, topics, SERVICE);
    let stop = engines.shutdown.clone();
    engines.shutdown.spawn("removal of tenants", async move {
        let work = async {
            // First what an earlier process did not finish.
            loop {
                persist("removal of data", || remove_all(&store)).await;
                let Some(change) = changes.recv().await else { return };
                if let TenantChange::Removed(tenant) = change {
                    persist("note of a removal", || store.note_removal(&tenant)).await;
                }
            }
        };
        stop.unless_requested(work).await;
    });
}

async fn remove_all(store: &Store) -> Result<(), common::engine::sql::SqlError> {
    for removal in store.removals().await? {
        while store.remove_some(&removal).await? {}
        info!(tenant = %removal.tenant, "the data of a tenant is removed");
    }
    Ok(())
}

/// Tries again until it works.
async fn persist<E, Fut>(what: &'static str, mut work: impl FnMut() -> Fut)
where
    E: std::fmt::Display,
    Fut: Future<Output = Result<(), E>>,
{
    let mut backoff = Backoff::default();
    while let Err(error) = work().await {
        warn!(%error, what, "will try again");
        backoff.wait().await;
    }
}
