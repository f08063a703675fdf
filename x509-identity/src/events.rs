//! What the service announces: a certificate got, changed or lost its owner (dojot-connectors.md 2.9).

use common::{
    engine::outbox::Event,
    wire::{
        Subject, Tenant,
        event::{
            OwnershipEvent,
            certificate::{Certificate, Data, Metadata, Owner},
        },
    },
};
use serde_json::json;
use uuid::Uuid;

/// A certificate whose owner may have changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) fingerprint: &'a str,
    pub(crate) pem: &'a str,
    pub(crate) before: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
}

impl Change<'_> {
    /// The event of the change; none if the owner is the same, or if there never was one.
    pub(crate) fn event<'t>(&self, tenant: &'t Tenant, now_ms: i64) -> Option<Event<'t>> {
        let (event_type, device) = self.kind()?;
        let owner = |device: &str| Owner { device: device.to_owned() };
        let event = OwnershipEvent {
            metadata: Metadata {
                msgid: Uuid::new_v4().to_string(),
                timestamp: now_ms,
                service: "x509-identity-mgmt".to_owned(),
                tenant: tenant.clone(),
                content_type: "application/vnd.dojot.x509-identities+json".to_owned(),
            },
            data: Data {
                event_type: event_type.to_owned(),
                event_data: Certificate {
                    fingerprint: self.fingerprint.to_owned(),
                    certificate_pem: self.pem.to_owned(),
                    issued_by_dojot_pki: true,
                    auto_registered: false,
                    belongs_to: self.after.map(owner),
                    previous_belongs_to: self.before.map(owner),
                },
            },
        };
        Some(Event {
            tenant,
            subject: Subject::CERTIFICATES,
            key: Some(format!("{tenant}:{device}")),
            value: json!(event).to_string(),
        })
    }

    /// The name of the event and the device whose key it has.
    fn kind(&self) -> Option<(&'static str, &str)> {
        match (self.before, self.after) {
            (None, Some(after)) => Some(("ownership.create", after)),
            (Some(before), None) => Some(("ownership.delete", before)),
            (Some(before), Some(after)) if before != after => Some(("ownership.update", after)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_the_owner_is_an_event() {
        for (before, after, expected) in [
            (None, None, None),
            (None, Some("a"), Some(("ownership.create", "a"))),
            (Some("a"), Some("a"), None),
            (Some("a"), Some("b"), Some(("ownership.update", "b"))),
            (Some("a"), None, Some(("ownership.delete", "a"))),
        ] {
            let change = Change { fingerprint: "F", pem: "P", before, after };
            assert_eq!(change.kind(), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_message_is_that_of_the_contract() {
        let tenant = Tenant::parse("admin").unwrap();
        let change = Change { fingerprint: "F", pem: "P", before: Some("a"), after: Some("b") };
        let event = change.event(&tenant, 1_628_000_000_000).unwrap();
        assert_eq!(event.key.as_deref(), Some("admin:b"));
        let mut value: serde_json::Value = serde_json::from_str(&event.value).unwrap();
        assert!(Uuid::parse_str(value["metadata"]["msgid"].as_str().unwrap()).is_ok());
        value["metadata"]["msgid"] = json!("id");
        let expected = json!({
            "metadata": {
                "msgid": "id", "timestamp": 1_628_000_000_000_i64, "service": "x509-identity-mgmt",
                "tenant": "admin", "contentType": "application/vnd.dojot.x509-identities+json",
            },
            "data": {
                "eventType": "ownership.update",
                "eventData": {
                    "fingerprint": "F", "certificatePem": "P", "issuedByDojotPki": true, "autoRegistered": false,
                    "belongsTo": { "device": "b" }, "previousBelongsTo": { "device": "a" },
                },
            },
        });
        assert_eq!(value, expected);
    }
}
