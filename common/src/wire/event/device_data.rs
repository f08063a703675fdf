//! A reading of a device (dojot-connectors.md 0.3): `{"metadata":{…},"attrs":{…}}`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::{DeviceId, Tenant};

/// A reading, borrowed from the record's value. `attrs` and `metadata` stay as they were sent.
#[derive(Debug, Deserialize)]
pub struct DeviceData<'a> {
    /// Who reported it and when, plus whatever else a producer added.
    #[serde(borrow)]
    pub metadata: &'a RawValue,
    /// The attributes: an object of name to value.
    #[serde(borrow)]
    pub attrs: &'a RawValue,
}

/// The members of `metadata` that Tatami itself reads.
#[derive(Debug, Deserialize)]
pub struct Metadata<'a> {
    /// The reporting device.
    #[serde(borrow)]
    pub deviceid: Cow<'a, str>,
    /// When it was measured: a number (milliseconds, or seconds below 2^31), an ISO text, or absent.
    #[serde(borrow, default)]
    pub timestamp: Option<&'a RawValue>,
}

/// Writes the record value of a reading around `attrs`, which must be a JSON object and is copied as it is.
pub fn encode(tenant: &Tenant, device: &DeviceId, timestamp_ms: i64, attrs: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut value = Vec::with_capacity(attrs.len() + 128);
    // Neither name needs escaping: both are restricted to letters, digits, dash and underscore.
    let written = write!(
        value,
        r#"{{"metadata":{{"deviceid":"{device}","tenant":"{tenant}","timestamp":{timestamp_ms}}},"attrs":"#
    );
    debug_assert!(written.is_ok(), "writing to a vector does not fail");
    value.extend_from_slice(attrs);
    value.push(b'}');
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let tenant = Tenant::parse("admin").unwrap();
        let device = DeviceId::parse("a1b2c3").unwrap();
        let value = encode(&tenant, &device, 1_528_226_137_452, br#"{"temperature": 23.0}"#);
        let data: DeviceData<'_> = serde_json::from_slice(&value).unwrap();
        assert_eq!(data.attrs.get(), r#"{"temperature": 23.0}"#);
        let metadata: Metadata<'_> = serde_json::from_str(data.metadata.get()).unwrap();
        assert_eq!(metadata.deviceid, "a1b2c3");
        assert_eq!(metadata.timestamp.unwrap().get(), "1528226137452");
    }
}
