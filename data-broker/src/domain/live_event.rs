//! What a record looks like to a dashboard (dojot-api.md 4.3).

use std::borrow::Cow;

use common::wire::{
    Tenant,
    event::{DeviceData, DeviceEvent, device_data::Metadata},
};
use serde_json::{json, value::RawValue};

/// An event for the sockets of a tenant: emitted under the device's name and under `all`.
#[derive(Debug)]
pub(crate) struct LiveEvent<'a> {
    /// Name of the event.
    pub(crate) device: String,
    /// Its payload.
    pub(crate) payload: Cow<'a, RawValue>,
}

/// The event of a reading: the record as it was published.
pub(crate) fn of_reading(value: &[u8]) -> Option<LiveEvent<'_>> {
    let payload: &RawValue = serde_json::from_slice(value).ok()?;
    let data: DeviceData<'_> = serde_json::from_str(payload.get()).ok()?;
    let metadata: Metadata<'_> = serde_json::from_str(data.metadata.get()).ok()?;
    Some(LiveEvent { device: metadata.deviceid.into_owned(), payload: Cow::Borrowed(payload) })
}

/// The event of an actuation. The tenant is that of the topic, whatever the message says. Other device events have none.
pub(crate) fn of_actuation(tenant: &Tenant, value: &[u8]) -> Option<LiveEvent<'static>> {
    let event: DeviceEvent = serde_json::from_slice(value).ok()?;
    if event.event != DeviceEvent::CONFIGURE {
        return None;
    }
    let device = event.device_id()?.to_owned();
    let payload = json!({
        "attrs": event.data.get("attrs")?,
        "metadata": { "deviceid": device, "tenant": tenant, "timestamp": event.meta.timestamp? },
    });
    let payload = serde_json::value::to_raw_value(&payload).ok()?;
    Some(LiveEvent { device, payload: Cow::Owned(payload) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_shown_as_it_was_published() {
        let value = br#"{"metadata":{"deviceid":"a1","tenant":"t","timestamp":1},"attrs":{"x":1.0}}"#;
        let event = of_reading(value).unwrap();
        assert_eq!(event.device, "a1");
        assert_eq!(event.payload.get().as_bytes(), value);
    }

    #[test]
    fn what_is_no_reading_is_not_shown() {
        for value in [
            "",
            "1",
            "[]",
            "{}",
            r#"{"metadata":{},"attrs":{}}"#,
            r#"{"metadata":{"deviceid":"a"}}"#,
            "{\"a\"",
        ] {
            assert!(of_reading(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn only_complete_actuations_are_shown() {
        let tenant = Tenant::parse("t").unwrap();
        // What the message says about its tenant means nothing.
        let value = r#"{"event":"configure","data":{"id":"a1","attrs":{"fan":1}},"meta":{"service":"other","timestamp":5}}"#;
        let event = of_actuation(&tenant, value.as_bytes()).unwrap();
        assert_eq!(event.device, "a1");
        assert_eq!(
            event.payload.get(),
            r#"{"attrs":{"fan":1},"metadata":{"deviceid":"a1","tenant":"t","timestamp":5}}"#
        );
        for other in [
            value.replace("configure", "update"),
            value.replace(r#","timestamp":5"#, ""),
            value.replace(r#""id":"a1","#, ""),
            value.replace("attrs", "other"),
        ] {
            assert!(of_actuation(&tenant, other.as_bytes()).is_none(), "{other}");
        }
    }
}
