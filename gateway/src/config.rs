//! Settings of the gateway.

use anyhow::ensure;
use serde::Deserialize;

/// Section `gateway`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the platform's API.
    pub listen: String,
    /// Most decisions of the PDP that are remembered; 0 asks it for every request.
    pub decision_cache_entries: u64,
    /// How long a decision is remembered, in seconds.
    pub decision_cache_ttl_s: u32,
    /// Longest time to connect to a service, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest time until a service begins to answer, in milliseconds.
    pub response_timeout_ms: u64,
    /// Longest pause of a service within the body of an answer, in milliseconds.
    pub body_pause_ms: u64,
    /// A body that ends so long after the decision, in milliseconds, is decided about again.
    pub late_body_ms: u64,
    /// How long an unused connection to a service is kept, in milliseconds.
    pub keep_alive_ms: u64,
    /// Most unused connections kept for one service.
    pub max_idle_connections: usize,
    /// Most websockets at a time.
    pub max_websockets: usize,
    /// A websocket on which nothing moves for so long is closed, in seconds.
    pub websocket_idle_s: u64,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=60).contains(&self.decision_cache_ttl_s),
            "gateway.decision_cache_ttl_s must be between 1 and 60"
        );
        ensure!(
            (1..=1_000_000).contains(&self.max_websockets),
            "gateway.max_websockets must be between 1 and 1000000"
        );
        ensure!(self.late_body_ms <= 1000, "gateway.late_body_ms must be between 0 and 1000");
        for (key, value) in [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("response_timeout_ms", self.response_timeout_ms),
            ("body_pause_ms", self.body_pause_ms),
            ("keep_alive_ms", self.keep_alive_ms),
            ("websocket_idle_s", self.websocket_idle_s),
        ] {
            ensure!((1..=86_400_000).contains(&value), "gateway.{key} must be between 1 and 86400000");
        }
        Ok(())
    }
}
