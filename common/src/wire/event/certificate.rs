//! A certificate got, changed or lost its owner (dojot-connectors.md 2.9).

use serde::{Deserialize, Serialize};

use crate::wire::Tenant;

/// Envelope of what x509-identity announces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnershipEvent {
    /// Identity of the message and whose it is.
    pub metadata: Metadata,
    /// What happened.
    pub data: Data,
}

/// Who announces what, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    /// UUID, equal on redelivery.
    pub msgid: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Always `x509-identity-mgmt`.
    pub service: String,
    /// Tenant of the certificate.
    pub tenant: Tenant,
    /// Always `application/vnd.dojot.x509-identities+json`.
    #[serde(rename = "contentType")]
    pub content_type: String,
}

/// The kind of change and its subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// `ownership.create`, `ownership.update` or `ownership.delete`.
    pub event_type: String,
    /// The certificate after the change.
    pub event_data: Certificate,
}

/// The certificate whose owner changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// SHA-256 of the certificate, upper-case hex pairs joined by colons.
    pub fingerprint: String,
    /// The certificate itself.
    pub certificate_pem: String,
    /// Whether the platform's own authority signed it.
    pub issued_by_dojot_pki: bool,
    /// Whether it was registered at its first contact.
    pub auto_registered: bool,
    /// The owner now; absent on `ownership.delete`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub belongs_to: Option<Owner>,
    /// The owner before; present on `ownership.update`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_belongs_to: Option<Owner>,
}

/// The device that a certificate identifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Identifier of the device.
    pub device: String,
}
