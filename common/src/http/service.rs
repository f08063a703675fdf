//! The services of the platform.

use serde::{Deserialize, Serialize};

/// A service that others call over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Users, tenants, tokens, decisions.
    Auth,
    /// Devices, templates, actuation, device credentials.
    DeviceManager,
    /// Topics, socket.io.
    DataBroker,
    /// Readings over time.
    History,
    /// Tickets and websockets.
    KafkaWs,
    /// Certificates.
    X509Identity,
}

impl Service {
    /// Its name in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::DeviceManager => "device_manager",
            Self::DataBroker => "data_broker",
            Self::History => "history",
            Self::KafkaWs => "kafka_ws",
            Self::X509Identity => "x509_identity",
        }
    }
}
