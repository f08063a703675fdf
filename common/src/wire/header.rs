//! Record headers: facts about a record that are not part of its contract value.

/// Stable identifier of an event that came through an outbox (a UUID as text). Equal on redelivery.
pub const EVENT_ID: &str = "tatami-event-id";
/// Identity of an MQTT publish that its client may send again after a broken connection (16 bytes).
pub const ORIGIN: &str = "tatami-origin";
/// Why a record was set aside in `{tenant}.tatami.dead-letter` (text).
pub const REASON: &str = "tatami-reason";
/// Where a record that was set aside came from (`topic/partition/offset`).
pub const SOURCE: &str = "tatami-source";
