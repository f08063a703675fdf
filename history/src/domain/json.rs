//! Samples as JSON. Values and metadata are copied as they are stored, never read and written again.

use common::{engine::history_store::Sample, wire::date};

/// Writes a sample as an item of an array.
pub(crate) fn write_item(out: &mut Vec<u8>, sample: &Sample) {
    out.extend_from_slice(b"{\"attr\":");
    write_text(out, &sample.attr);
    out.extend_from_slice(b",\"value\":");
    out.extend_from_slice(sample.value.as_bytes());
    // Neither a device id nor a date needs escaping.
    out.extend_from_slice(b",\"device_id\":\"");
    out.extend_from_slice(sample.device.as_str().as_bytes());
    out.extend_from_slice(b"\",\"ts\":\"");
    out.extend_from_slice(date::format_ms(sample.ts_ms).as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(sample.metadata.as_bytes());
    out.push(b'}');
}

/// Writes a JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "writing text to a vector does not fail");
}

#[cfg(test)]
mod tests {
    use common::wire::{DeviceId, Tenant};

    use super::*;

    #[test]
    fn an_item_is_as_in_the_contract() {
        let sample = Sample {
            tenant: Tenant::parse("t").unwrap(),
            generation: 0,
            device: DeviceId::parse("aa01").unwrap(),
            attr: "a\"b".to_owned(),
            value: "10.50".to_owned(),
            ts_ms: 1_795_167_181_000,
            metadata: r#"{"protocol":"mqtt"}"#.to_owned(),
            id: [0; 16],
        };
        let mut out = Vec::new();
        write_item(&mut out, &sample);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"attr":"a\"b","value":10.50,"device_id":"aa01","ts":"2026-11-20T09:33:01Z","metadata":{"protocol":"mqtt"}}"#
        );
    }
}
