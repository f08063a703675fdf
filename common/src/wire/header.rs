//! Record headers: facts about a record that are not part of its contract value.

/// Stable identifier of an event that came through an outbox (a UUID as text). Equal on redelivery.
pub const EVENT_ID: &str = "tatami-event-id";
/// Identity of an MQTT publish that its client may send again after a broken connection (16 bytes).
pub const ORIGIN: &str = "tatami-origin";
/// Generation of the tenant in whose name the record was made (decimal). Whoever belongs to another of the tenants that have
/// had the name does not see it. Without it the record is for all of them.
pub const GENERATION: &str = "tatami-generation";
/// Why a record was set aside in `{tenant}.tatami.dead-letter` (text).
pub const REASON: &str = "tatami-reason";
/// Where a record that was set aside came from (`topic/partition/offset`).
pub const SOURCE: &str = "tatami-source";
