//! Tenants that are gone: their devices and templates go too, in the background.

use common::{
    engine::Engines,
    tenancy::{self, TenantChange, Topics, Turn},
};

use crate::{SERVICE, storage::Store};

/// Follows the tenants until the end is asked for.
pub(crate) fn start(engines: &Engines, topics: Topics, store: Store) {
    let mut changes = tenancy::follow(engines, topics, SERVICE, Turn::AtOnce);
    let shutdown = engines.shutdown.clone();
    engines.shutdown.spawn("removal of tenants", async move {
        let follow = async {
            while let Some(change) = changes.recv().await {
                if let TenantChange::Purge(removal) = change {
                    let (store, of) = (store.clone(), removal.clone());
                    removal.carry_out(&shutdown, async move { store.remove_tenant(&of).await });
                }
            }
        };
        shutdown.unless_requested(follow).await;
    });
}
