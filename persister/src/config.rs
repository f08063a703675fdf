//! Settings of persister.

use serde::Deserialize;

/// Section `persister`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Most records that are stored by one write.
    pub batch_records: usize,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=10_000).contains(&self.batch_records),
            "persister.batch_records must be between 1 and 10000"
        );
        Ok(())
    }
}
