//! Samples as CSV: names and texts in quotes, numbers as they are stored, a column per member of metadata.

use std::collections::BTreeMap;

use common::{engine::history_store::Sample, wire::date};
use serde_json::value::RawValue;

/// Most columns for metadata; more members than this are left out.
pub(crate) const MAX_COLUMNS: usize = 200;

/// Adds the members of a sample's metadata that are new.
pub(crate) fn add_columns(columns: &mut Vec<String>, sample: &Sample) {
    for name in members(sample).into_keys() {
        if columns.len() < MAX_COLUMNS && !columns.contains(&name) {
            columns.push(name);
        }
    }
}

/// Writes the line of names.
pub(crate) fn write_header(out: &mut Vec<u8>, columns: &[String]) {
    out.extend_from_slice(b"\"attr\",\"value\",\"device_id\",\"ts\"");
    for name in columns {
        out.push(b',');
        write_quoted(out, &format!("metadata.{name}"));
    }
    out.push(b'\n');
}

/// Writes the line of a sample.
pub(crate) fn write_line(out: &mut Vec<u8>, columns: &[String], sample: &Sample) {
    write_quoted(out, &sample.attr);
    out.push(b',');
    write_json(out, &sample.value);
    out.push(b',');
    write_quoted(out, sample.device.as_str());
    out.push(b',');
    write_quoted(out, &date::format_ms(sample.ts_ms));
    if !columns.is_empty() {
        let members = members(sample);
        for name in columns {
            out.push(b',');
            write_json(out, members.get(name).map_or("null", |value| value.get()));
        }
    }
    out.push(b'\n');
}

fn members(sample: &Sample) -> BTreeMap<String, &RawValue> {
    if sample.metadata == "{}" {
        BTreeMap::new()
    } else {
        serde_json::from_str(&sample.metadata).unwrap_or_default()
    }
}

/// Nothing for null; numbers and booleans bare; the content of a text, or the JSON of anything else, in quotes.
fn write_json(out: &mut Vec<u8>, json: &str) {
    match json.as_bytes().first() {
        Some(b'n') | None => {}
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) => write_quoted(out, &text),
            // Half a surrogate pair is valid JSON and no text.
            Err(_) => write_quoted(out, json),
        },
        Some(b'{' | b'[') => write_quoted(out, json),
        Some(_) => out.extend_from_slice(json.as_bytes()),
    }
}

fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use common::wire::{DeviceId, Tenant};

    use super::*;

    #[test]
    fn values_keep_their_kind() {
        let mut columns = Vec::new();
        let mut lines = Vec::new();
        let samples: Vec<Sample> = [
            ("99", "{}"),
            ("0.50", r#"{"protocol":"mqtt","q":1.0}"#),
            ("\"say \\\"hi\\\", \\u00fc\\n\"", r#"{"q":null}"#),
            ("{\"a\": [1,\"x\"]}", r#"{"z":true}"#),
            ("null", "{}"),
            ("\"\\ud83e\"", "{}"),
        ]
        .into_iter()
        .map(|(value, metadata)| Sample {
            tenant: Tenant::parse("t").unwrap(),
            generation: 0,
            device: DeviceId::parse("aa01").unwrap(),
            attr: "a".to_owned(),
            value: value.to_owned(),
            ts_ms: 0,
            metadata: metadata.to_owned(),
            id: [0; 16],
        })
        .collect();
        for sample in &samples {
            add_columns(&mut columns, sample);
        }
        write_header(&mut lines, &columns);
        for sample in &samples {
            write_line(&mut lines, &columns, sample);
        }
        let expected = r#""attr","value","device_id","ts","metadata.protocol","metadata.q","metadata.z"
"a",99,"aa01","1970-01-01T00:00:00Z",,,
"a",0.50,"aa01","1970-01-01T00:00:00Z","mqtt",1.0,
"a","say ""hi"", ü
","aa01","1970-01-01T00:00:00Z",,,
"a","{""a"": [1,""x""]}","aa01","1970-01-01T00:00:00Z",,,true
"a",,"aa01","1970-01-01T00:00:00Z",,,
"a","""\ud83e""","aa01","1970-01-01T00:00:00Z",,,
"#;
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
    }
}
