//! Settings of kafka-ws.

use anyhow::ensure;
use serde::Deserialize;

/// Section `kafka_ws`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API and of the websockets.
    pub listen: String,
    /// How long a ticket may wait for its use, in seconds.
    pub ticket_lifetime_s: u64,
    /// Longest life of a websocket, in seconds; 0 is without an end of its own.
    pub max_lifetime_s: u32,
    /// Whether a websocket may outlive the token of its user.
    pub outlive_token: bool,
    /// Most frames that may wait for one socket.
    pub queue_frames: usize,
    /// Most bytes that may wait for one socket.
    pub queue_bytes: usize,
    /// How often a socket is pinged, in seconds.
    pub ping_interval_s: u64,
    /// Most sockets of one tenant at a time on this instance.
    pub max_sockets_per_tenant: usize,
    /// Most sockets at a time on this instance.
    pub max_sockets: usize,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=3600).contains(&self.ticket_lifetime_s),
            "kafka_ws.ticket_lifetime_s must be between 1 and 3600"
        );
        ensure!(
            (1..=1 << 20).contains(&self.queue_frames),
            "kafka_ws.queue_frames must be between 1 and 1048576"
        );
        ensure!(
            (1..=3600).contains(&self.ping_interval_s),
            "kafka_ws.ping_interval_s must be between 1 and 3600"
        );
        for (key, value) in [
            ("queue_bytes", self.queue_bytes),
            ("max_sockets_per_tenant", self.max_sockets_per_tenant),
            ("max_sockets", self.max_sockets),
        ] {
            ensure!(value > 0, "kafka_ws.{key} must be greater than 0");
        }
        Ok(())
    }
}
