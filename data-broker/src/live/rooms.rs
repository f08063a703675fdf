//! What is appended goes to the room of its tenant (dojot-api.md 4.3).

use common::{
    backoff::Backoff,
    engine::event_log::Record,
    wire::{Subject, Tenant},
};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tracing::warn;

use super::{Live, session::Session};
use crate::domain::live_event::{self, LiveEvent};

/// Rooms of sockets that want notifications are apart from those that want readings.
const NOTIFICATION_ROOM: &str = "notifications:";

/// The room of a tenant's sockets. Records that say which of the tenants that have had the name they were made for go to
/// the room of that one, the others to the room without a generation.
fn room(tenant: &Tenant, generation: i64, notifications: bool) -> String {
    let prefix = if notifications { NOTIFICATION_ROOM } else { "" };
    if generation == 0 { format!("{prefix}{tenant}") } else { format!("{prefix}{tenant}#{generation}") }
}

/// The rooms of a socket.
pub(super) fn rooms(tenant: &Tenant, generation: i64, notifications: bool) -> [String; 2] {
    [room(tenant, 0, notifications), room(tenant, generation, notifications)]
}

/// How much was emitted since the sockets had their turn.
#[derive(Default)]
struct Burst {
    records: usize,
    bytes: usize,
}

impl Burst {
    /// A record makes two packets, and a quick reader's queue must not be full before it could read.
    const RECORDS: usize = 64;
    const BYTES: usize = 64 * 1024;

    /// Lets the sockets write now and then.
    async fn emitted(&mut self, record: &Record) {
        self.records += 1;
        self.bytes += record.value.len();
        if self.records >= Self::RECORDS || self.bytes >= Self::BYTES {
            *self = Self::default();
            tokio::task::yield_now().await;
        }
    }
}

impl Live {
    /// Emits what is appended, for ever.
    pub(super) async fn emit_all(&self) {
        let mut backoff = Backoff::default();
        let mut burst = Burst::default();
        loop {
            match self.shared.tail.next_batch(500).await {
                Ok(batch) => {
                    backoff.reset();
                    // Records of one topic come in runs.
                    let goes_on = |one: &Record, next: &Record| {
                        one.topic == next.topic && one.generation() == next.generation()
                    };
                    for run in batch.chunk_by(goes_on) {
                        self.emit_run(run, &mut burst).await;
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot read from the log");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Emits records of one topic that are for the same sockets.
    async fn emit_run(&self, run: &[Record], burst: &mut Burst) {
        let Some(first @ Record { topic, .. }) = run.first() else { return };
        // The room follows the topic's tenant, whatever the message says.
        let is_notification = topic.subject() == Subject::NOTIFICATIONS.as_str();
        let is_event = topic.subject() == Subject::DEVICE.as_str();
        let room = room(topic.tenant(), first.generation(), is_notification);
        for record in run {
            if is_notification {
                self.notify(&room, record);
            } else if is_event {
                self.emit(&room, live_event::of_actuation(topic.tenant(), &record.value)).await;
            } else {
                self.emit(&room, live_event::of_reading(&record.value)).await;
            }
            burst.emitted(record).await;
        }
    }

    async fn emit(&self, room: &str, event: Option<LiveEvent<'_>>) {
        let Some(LiveEvent { device, payload }) = event else { return };
        let payload: &RawValue = &payload;
        for name in [device.as_str(), "all"] {
            self.deliver(room, name, payload).await;
        }
        metrics::counter!("socketio_records_total").increment(1);
    }

    fn notify(&self, room: &str, record: &Record) {
        let Ok(text) = std::str::from_utf8(&record.value) else { return };
        let Ok(notification) = serde_json::from_str::<Value>(text) else { return };
        // The text is the payload, as a string; it is escaped once for all sockets.
        let Ok(payload) = to_raw_value(text) else { return };
        for socket in self.io.within(room.to_owned()).sockets() {
            let passes =
                socket.extensions.get::<Session>().is_some_and(|session| session.passes(&notification));
            if passes {
                Self::offer(&socket, "notification", &payload, payload.get().len());
            }
        }
    }
}
