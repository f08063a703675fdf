//! Settings of history.

use serde::Deserialize;

/// Section `history`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API.
    pub listen: String,
    /// Most attributes that one request may name.
    pub max_attrs: usize,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.max_attrs > 0, "history.max_attrs must be greater than 0");
        Ok(())
    }
}
