//! What is appended goes to the room of its tenant (dojot-api.md 4.3).

use common::{
    backoff::Backoff,
    engine::event_log::Record,
    wire::{Subject, Tenant},
};
use serde_json::{Value, value::RawValue};
use tracing::warn;

use super::{Live, session::Session};
use crate::domain::live_event::{self, LiveEvent};

/// Rooms of sockets that want notifications are apart from those that want readings.
const NOTIFICATION_ROOM: &str = "notifications:";

/// The room of a tenant's sockets.
pub(super) fn room(tenant: &Tenant, notifications: bool) -> String {
    if notifications { format!("{NOTIFICATION_ROOM}{tenant}") } else { tenant.to_string() }
}

impl Live {
    /// Emits what is appended, for ever.
    pub(super) async fn emit_all(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.shared.tail.next_batch(500).await {
                Ok(batch) => {
                    backoff.reset();
                    for record in &batch {
                        self.emit(record).await;
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot read from the log");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn emit(&self, record: &Record) {
        // The room follows the topic's tenant, whatever the message says.
        let tenant = record.topic.tenant();
        let subject = record.topic.subject();
        if subject == Subject::NOTIFICATIONS.as_str() {
            self.notify(tenant, record);
            return;
        }
        let event = if subject == Subject::DEVICE.as_str() {
            live_event::of_actuation(&record.value)
        } else {
            live_event::of_reading(&record.value)
        };
        if let Some(LiveEvent { device, payload }) = event {
            let payload: &RawValue = &payload;
            for name in [device.as_str(), "all"] {
                self.deliver(&room(tenant, false), name, payload).await;
            }
            metrics::counter!("socketio_records_total").increment(1);
        }
    }

    fn notify(&self, tenant: &Tenant, record: &Record) {
        let Ok(text) = std::str::from_utf8(&record.value) else { return };
        let Ok(notification) = serde_json::from_str::<Value>(text) else { return };
        for socket in self.io.within(room(tenant, true)).sockets() {
            let passes =
                socket.extensions.get::<Session>().is_some_and(|session| session.passes(&notification));
            if passes {
                Self::offer(&socket, "notification", text, text.len());
            }
        }
    }
}
