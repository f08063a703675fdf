//! Devices, as device-manager knows them: whether one exists, and when it or its whole tenant is gone.

use axum::http::StatusCode;
use common::{
    clock::Clock,
    consume::{Handler, Malformed},
    engine::event_log::Record,
    http::{
        Caller, Problem,
        client::{CallError, InternalClient, Service},
    },
    tenancy::Removal,
    wire::{DeviceId, Tenant, event::DeviceEvent},
};
use serde::de::IgnoredAny;

use crate::{SERVICE, storage::certificates::CertificateRepository};

/// Asks device-manager. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Devices {
    pub(crate) client: InternalClient,
    /// Whether the device of a certificate must exist.
    pub(crate) check: bool,
}

impl Devices {
    /// Refuses a device that the tenant does not have.
    pub(crate) async fn require(&self, tenant: &Tenant, device: Option<&DeviceId>) -> Result<(), Problem> {
        let Some(device) = device.filter(|_| self.check) else { return Ok(()) };
        let caller = Caller::service(SERVICE, tenant);
        let path = format!("/device/{device}");
        match self.client.get::<IgnoredAny>(Service::DeviceManager, &path, &caller).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { status, .. }) if status.as_u16() == 404 => Err(Problem::bad_request(
                format!("Device identifier '{device}' was not found for tenant '{tenant}'."),
            )),
            Err(error) => {
                tracing::warn!(%tenant, %device, %error, "a device cannot be looked up");
                Err(Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "Could not connect to the Device Manager service to validate the device identifier.",
                ))
            }
        }
    }
}

/// A removed device loses its certificates; those of a removed tenant are revoked.
pub(crate) struct DeviceFollower {
    pub(crate) certificates: CertificateRepository,
    pub(crate) clock: Clock,
}

impl Handler for DeviceFollower {
    async fn handle(&mut self, batch: &[Record]) -> anyhow::Result<Vec<Malformed>> {
        let mut malformed = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            match removed_device(&record.value) {
                Ok(Some(device)) => {
                    let tenant = record.topic.tenant();
                    self.certificates.unlink_device(tenant, &device, self.clock.now_ms()).await?;
                }
                Ok(None) => {}
                Err(reason) => malformed.push(Malformed { index, reason }),
            }
        }
        Ok(malformed)
    }

    fn purge(&self, removal: Removal) -> impl Future<Output = ()> + Send + 'static {
        let (certificates, now_ms) = (self.certificates.clone(), self.clock.now_ms());
        async move { certificates.remove_tenant(&removal, now_ms).await }
    }
}

/// The device that an event removes, if it does.
fn removed_device(event: &[u8]) -> Result<Option<DeviceId>, String> {
    let event: DeviceEvent = serde_json::from_slice(event).map_err(|error| error.to_string())?;
    if event.event != DeviceEvent::REMOVE {
        return Ok(None);
    }
    let device = event.device_id().ok_or("a removal without the id of a device")?;
    DeviceId::parse(device).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_removals_name_a_removed_device() {
        let device = DeviceId::parse("a1b2c3").unwrap();
        for (event, expected) in [
            (r#"{"event":"remove","data":{"id":"a1b2c3"},"meta":{"service":"admin"}}"#, Ok(Some(device))),
            (r#"{"event":"create","data":{"id":"a1b2c3"},"meta":{"service":"admin"}}"#, Ok(None)),
            (r#"{"event":"template.update","data":{"id":7},"meta":{"service":"admin"}}"#, Ok(None)),
        ] {
            assert_eq!(removed_device(event.as_bytes()), expected, "{event}");
        }
        for bad in [
            "",
            "[]",
            r#"{"event":"remove","data":{},"meta":{"service":"admin"}}"#,
            r#"{"event":"remove","data":{"id":"a/b"},"meta":{"service":"admin"}}"#,
        ] {
            assert!(removed_device(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
