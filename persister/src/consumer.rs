//! Stores what is read from the log.

use anyhow::Context;
use common::{
    backoff::Backoff,
    consume::{Handler, Malformed},
    engine::{HistoryStore, event_log::Record, history_store::Sample},
    tenancy::Removal,
};
use tracing::{debug, warn};

use crate::domain::sample;

/// Samples of one write at most: a record may hold thousands.
const MAX_SAMPLES: usize = 10_000;
/// Bytes of one write at most.
const MAX_BYTES: usize = 8 << 20;

pub(crate) struct Persister {
    history: HistoryStore,
}

impl Persister {
    pub(crate) fn new(history: HistoryStore) -> Self {
        Self { history }
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

    fn purge(&self, removal: Removal) -> impl Future<Output = ()> + Send + 'static {
        let history = self.history.clone();
        async move {
            let mut backoff = Backoff::default();
            while let Err(error) = history.remove_tenant(removal.tenant(), removal.generation()).await {
                warn!(?removal, %error, "the samples of a removed tenant cannot be removed for the moment");
                backoff.wait().await;
            }
        }
    }
}
