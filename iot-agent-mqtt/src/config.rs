//! Settings of the agent, section `iot_agent_mqtt`.

use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// Every setting; the defaults with a sentence each are in `config.default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of plain MQTT, empty for off.
    pub listen: String,
    /// Address of MQTT over TLS, empty for off.
    pub listen_tls: String,
    /// Names and addresses in the certificate of the TLS listener.
    pub hostnames: Vec<String>,
    /// Whether `tenant:device` without a password is enough on the plain listener.
    pub allow_anonymous_dojot: bool,
    /// Largest packet.
    pub max_packet_bytes: u32,
    /// Longest time until a complete CONNECT.
    pub connect_timeout_ms: u64,
    /// Longest keep-alive.
    pub max_keep_alive_s: u16,
    /// Most connections of the process.
    pub max_connections: usize,
    /// Most connections of one client address.
    pub max_connections_per_address: usize,
    /// Most connections of one device.
    pub max_connections_per_device: usize,
    /// Most publishes of a connection that wait for the log.
    pub in_flight: u16,
    /// Most actuations that wait for a connection.
    pub delivery_queue: usize,
    /// Most look-ups at a time.
    pub lookups_at_once: usize,
    /// Longest time of a look-up.
    pub lookup_timeout_ms: u64,
    /// How far back the log is searched for a publish that is sent again.
    pub redelivery_window_s: u32,
}

impl Config {
    /// Refuses values with which the agent could not work.
    pub fn validate(&self) -> anyhow::Result<()> {
        let positive = [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("max_keep_alive_s", self.max_keep_alive_s.into()),
            ("max_connections", self.max_connections as u64),
            ("max_connections_per_address", self.max_connections_per_address as u64),
            ("max_connections_per_device", self.max_connections_per_device as u64),
            ("in_flight", self.in_flight.into()),
            ("delivery_queue", self.delivery_queue as u64),
            ("lookups_at_once", self.lookups_at_once as u64),
            ("lookup_timeout_ms", self.lookup_timeout_ms),
        ];
        for (name, value) in positive {
            ensure!(value > 0, "iot_agent_mqtt.{name}: must be at least 1");
        }
        ensure!(
            (256..=268_435_455).contains(&self.max_packet_bytes),
            "iot_agent_mqtt.max_packet_bytes: must be from 256 to 268435455"
        );
        ensure!(
            self.listen_tls.is_empty() || !self.hostnames.is_empty(),
            "iot_agent_mqtt.hostnames: must name at least one host when listen_tls is set"
        );
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn lookup_timeout(&self) -> Duration {
        Duration::from_millis(self.lookup_timeout_ms)
    }
}
