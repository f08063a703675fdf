//! Life cycle and actuation of a device (dojot-api.md 3.6).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::Tenant;

/// A device was created, updated, removed or is asked to change an actuator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// `create`, `update`, `remove`, `configure` or `template.update`.
    pub event: String,
    /// The device; for `configure` its `id` and the `attrs` to change.
    pub data: Value,
    /// Whose device it is.
    pub meta: Meta,
}

/// Envelope of a device event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// The tenant, under dojot's name for it. Consumers trust the topic's tenant, not this one.
    pub service: Tenant,
    /// When an actuation was asked for, in milliseconds since the epoch; only on `configure`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp: Option<i64>,
}

impl DeviceEvent {
    /// Name of the actuation event.
    pub const CONFIGURE: &'static str = "configure";
    /// Name of the removal event.
    pub const REMOVE: &'static str = "remove";

    /// The device that the event is about, unless it is about a template.
    pub fn device_id(&self) -> Option<&str> {
        self.data.get("id")?.as_str()
    }
}
