//! Stores what is read from the log.

use std::collections::HashMap;

use anyhow::Context;
use common::{
    backoff::Backoff,
    consume::{Handler, Malformed},
    engine::{HistoryStore, event_log::Record, history_store::Sample},
    shutdown::Shutdown,
    wire::Tenant,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::domain::sample;

/// Samples of one write at most: a record may hold thousands.
const MAX_SAMPLES: usize = 10_000;
/// Bytes of one write at most.
const MAX_BYTES: usize = 8 << 20;

pub(crate) struct Persister {
    history: HistoryStore,
    shutdown: Shutdown,
    /// Tenants whose samples are being removed; the channel closes when that is done.
    removing: HashMap<Tenant, watch::Receiver<()>>,
}

impl Persister {
    pub(crate) fn new(history: HistoryStore, shutdown: Shutdown) -> Self {
        Self { history, shutdown, removing: HashMap::new() }
    }

    /// Samples of a tenant that came back must not be removed with those of the one that was there before.
    async fn wait_for_removal(&mut self, batch: &[Record]) {
        if self.removing.is_empty() {
            return;
        }
        for record in batch {
            if let Some(mut done) = self.removing.remove(record.topic.tenant()) {
                // An error means that the sender is gone, which is what is waited for.
                while done.changed().await.is_ok() {}
            }
        }
    }

    async fn store(&self, samples: &mut Vec<Sample>) -> anyhow::Result<()> {
        self.history.insert(samples).await.context("cannot store samples")?;
        metrics::counter!("persister_samples_total").increment(samples.len() as u64);
        samples.clear();
        Ok(())
    }
}

impl Handler for Persister {
    async fn handle(&mut self, batch: &[Record]) -> anyhow::Result<Vec<Malformed>> {
        self.wait_for_removal(batch).await;
        let mut malformed = Vec::new();
        let mut samples = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for (index, record) in batch.iter().enumerate() {
            let reading = match sample::read(record) {
                Ok(Some(reading)) => reading,
                Ok(None) => continue,
                Err(reason) => {
                    malformed.push(Malformed { index, reason });
                    continue;
                }
            };
            if reading.time_is_replaced() {
                metrics::counter!("persister_times_replaced_total").increment(1);
                debug!(topic = %record.topic, offset = record.offset, "the time of a reading is none");
            }
            for sample in reading.samples() {
                bytes += sample.attr.len() + sample.value.len() + sample.metadata.len();
                samples.push(sample);
                if samples.len() >= MAX_SAMPLES || bytes >= MAX_BYTES {
                    self.store(&mut samples).await?;
                    bytes = 0;
                }
            }
        }
        self.store(&mut samples).await?;
        Ok(malformed)
    }

    async fn tenant_removed(&mut self, tenant: &Tenant) {
        let (doing, done) = watch::channel(());
        self.removing.insert(tenant.clone(), done);
        let (history, tenant) = (self.history.clone(), tenant.clone());
        let stop = self.shutdown.clone();
        self.shutdown.spawn("remove history", async move {
            stop.unless_requested(remove(&history, &tenant)).await;
            drop(doing);
        });
    }
}

async fn remove(history: &HistoryStore, tenant: &Tenant) {
    let mut backoff = Backoff::default();
    while let Err(error) = history.remove_tenant(tenant).await {
        warn!(%tenant, %error, "the samples of a deleted tenant cannot be removed for the moment");
        backoff.wait().await;
    }
    info!(%tenant, "the samples of a deleted tenant are removed");
}
