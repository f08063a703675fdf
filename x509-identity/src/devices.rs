//! Follows device events: a removed device loses its certificates.

use common::{
    clock::Clock,
    consume::{Handler, Malformed},
    engine::event_log::Record,
    wire::event::DeviceEvent,
};

use crate::storage::certificates::CertificateRepository;

pub(crate) struct DeviceFollower {
    pub(crate) certificates: CertificateRepository,
    pub(crate) clock: Clock,
}

impl Handler for DeviceFollower {
    async fn handle(&mut self, batch: &[Record]) -> anyhow::Result<Vec<Malformed>> {
        let mut malformed = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            match serde_json::from_slice::<DeviceEvent>(&record.value) {
                Ok(event) if event.event == DeviceEvent::REMOVE => {
                    if let Some(device) = event.device_id() {
                        let tenant = record.topic.tenant();
                        self.certificates.unlink_device(tenant, device, self.clock.now_ms()).await?;
                    }
                }
                Ok(_) => {}
                Err(error) => malformed.push(Malformed { index, reason: error.to_string() }),
            }
        }
        Ok(malformed)
    }
}
