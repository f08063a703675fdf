//! Record to samples (dojot-api.md 5.5).

use std::{borrow::Cow, collections::BTreeMap};

use common::{
    engine::{event_log::Record, history_store::Sample},
    wire::{
        DeviceId, Subject,
        event::{DeviceData, DeviceEvent},
        header,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::timestamp::{self, Timestamp};

/// Longest metadata that is kept: it is stored once per attribute, so a long one would be multiplied.
const MAX_METADATA: usize = 4096;
/// Longest name of an attribute.
const MAX_ATTR_NAME: usize = 1024;
/// Members of metadata that say what is stored elsewhere.
const KNOWN_METADATA: [&str; 3] = ["deviceid", "timestamp", "tenant"];

/// What a record says about a device: the values of some attributes at one time.
#[derive(Debug)]
pub struct Reading<'a> {
    record: &'a Record,
    device: DeviceId,
    time: Timestamp,
    metadata: String,
    /// Of two attributes with one name the last counts, as it does for every JSON parser in the field.
    attrs: BTreeMap<String, &'a RawValue>,
}

/// A device event, as far as it is read here.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "event")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Configure<'a> {
    id: String,
    #[serde(borrow)]
    attrs: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize, Default)]
struct ConfigureMeta<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

/// Reads a record. `None` means that it holds no readings; an error says why nobody can read it.
pub fn read(record: &Record) -> Result<Option<Reading<'_>>, String> {
    let reading = if record.topic.subject() == Subject::DEVICE.as_str() {
        of_event(record)?
    } else {
        Some(of_data(record)?)
    };
    match reading {
        Some(reading) if reading.attrs.keys().any(|name| name.len() > MAX_ATTR_NAME) => {
            Err(format!("the name of an attribute is longer than {MAX_ATTR_NAME} bytes"))
        }
        reading => Ok(reading),
    }
}

fn of_data(record: &Record) -> Result<Reading<'_>, String> {
    let data: DeviceData<'_> = parse(&record.value, "the reading")?;
    let mut metadata: BTreeMap<String, &RawValue> = parse(data.metadata.get().as_bytes(), "metadata")?;
    let attrs = parse(data.attrs.get().as_bytes(), "attrs")?;
    let device = metadata.get("deviceid").ok_or("metadata.deviceid is missing")?;
    let device = device_id(&parse::<String>(device.get().as_bytes(), "metadata.deviceid")?)?;
    let time = timestamp::read(metadata.get("timestamp").copied(), record.timestamp_ms);
    for name in KNOWN_METADATA {
        metadata.remove(name);
    }
    let metadata = serde_json::to_string(&metadata).map_err(|error| error.to_string())?;
    if metadata.len() > MAX_METADATA {
        return Err(format!("metadata is longer than {MAX_METADATA} bytes"));
    }
    Ok(Reading { record, device, time, metadata, attrs })
}

fn of_event(record: &Record) -> Result<Option<Reading<'_>>, String> {
    let Event { kind, data, meta } = parse(&record.value, "the event")?;
    if kind != DeviceEvent::CONFIGURE {
        return Ok(None);
    }
    let data = data.ok_or("data is missing")?;
    let Configure { id, attrs } = parse(data.get().as_bytes(), "data")?;
    let meta: ConfigureMeta<'_> = match meta {
        Some(meta) => parse(meta.get().as_bytes(), "meta")?,
        None => ConfigureMeta::default(),
    };
    let time = timestamp::read(meta.timestamp, record.timestamp_ms);
    Ok(Some(Reading { record, device: device_id(&id)?, time, metadata: "{}".to_owned(), attrs }))
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| format!("{what}: {error}"))
}

fn device_id(id: &str) -> Result<DeviceId, String> {
    DeviceId::parse(id).map_err(|error| error.to_string())
}

impl Reading<'_> {
    /// Whether the message's own time is none, and the record's was taken.
    pub fn time_is_replaced(&self) -> bool {
        self.time.is_replaced
    }

    /// One sample per attribute.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.attrs.iter().map(|(attr, value)| Sample {
            tenant: self.record.topic.tenant().clone(),
            generation: self.record.generation(),
            device: self.device.clone(),
            attr: attr.clone(),
            value: value.get().to_owned(),
            ts_ms: self.time.ms,
            metadata: self.metadata.clone(),
            id: identity(self.record, attr),
        })
    }
}

/// The identity of a sample: the same record gives the same one whenever it is read, and no other record does. An event
/// that an outbox has appended twice is the same event.
fn identity(record: &Record, attr: &str) -> [u8; 16] {
    match record.header(header::EVENT_ID).and_then(|id| Uuid::try_parse_ascii(id).ok()) {
        Some(event) => identity_of_event(record, event, attr),
        None => identity_of_record(record, attr),
    }
}

/// Identifiers of events grow with time; from the seconds down to the counter within a millisecond they order samples of
/// equal times.
fn identity_of_event(record: &Record, event: Uuid, attr: &str) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(record.topic.as_str())
        .chain_update([1])
        .chain_update(event.as_bytes())
        .chain_update(attr)
        .finalize();
    compose(&event.as_bytes()[4..12], &hash)
}

/// The offset orders samples of equal times as the log does. The append time tells a topic from one of the same name that
/// was deleted before.
fn identity_of_record(record: &Record, attr: &str) -> [u8; 16] {
    let offset = record.offset.to_be_bytes();
    let hash = Sha256::new()
        .chain_update(record.topic.as_str())
        .chain_update([0])
        .chain_update(record.partition.to_be_bytes())
        .chain_update(offset)
        .chain_update(record.timestamp_ms.to_be_bytes())
        .chain_update(attr)
        .finalize();
    compose(&offset[3..], &hash)
}

fn compose(order: &[u8], hash: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    let (front, back) = id.split_at_mut(order.len());
    front.copy_from_slice(order);
    back.copy_from_slice(&hash[..back.len()]);
    id
}

#[cfg(test)]
mod tests {
    use common::wire::{Tenant, Topic};

    use super::*;

    const APPENDED: i64 = 1_700_000_000_123;

    fn record(subject: &Subject, value: &str) -> Record {
        Record {
            topic: Topic::new(&Tenant::parse("acme").unwrap(), subject),
            partition: 3,
            offset: 77,
            timestamp_ms: APPENDED,
            key: None,
            value: value.to_owned().into(),
            headers: std::iter::empty().collect(),
        }
    }

    /// Attribute, value, time and metadata of each sample.
    fn samples_of(subject: &Subject, value: &str) -> Result<Vec<(String, String, i64, String)>, String> {
        let record = record(subject, value);
        let reading = read(&record)?;
        let samples = reading.iter().flat_map(Reading::samples).map(|sample| {
            assert_eq!((sample.tenant.as_str(), sample.device.as_str()), ("acme", "a1b2"));
            (sample.attr, sample.value, sample.ts_ms, sample.metadata)
        });
        Ok(samples.collect())
    }

    fn expected(samples: &[(&str, &str, i64, &str)]) -> Vec<(String, String, i64, String)> {
        let owned = |(attr, value, ts, metadata): &(&str, &str, i64, &str)| {
            ((*attr).to_owned(), (*value).to_owned(), *ts, (*metadata).to_owned())
        };
        samples.iter().map(owned).collect()
    }

    #[test]
    fn every_attribute_of_a_reading_becomes_a_sample() {
        for (value, samples) in [
            (
                r#"{"metadata":{"deviceid":"a1b2","tenant":"acme","timestamp":1528226137452},"attrs":{"t":23.0}}"#,
                &[("t", "23.0", 1_528_226_137_452, "{}")][..],
            ),
            (
                r#"{"attrs":{"b":{"z":1,"a":[1.0, 9007199254740993]},"a":null," ":" "},"metadata":{"deviceid":"a1b2"}}"#,
                &[
                    (" ", "\" \"", APPENDED, "{}"),
                    ("a", "null", APPENDED, "{}"),
                    ("b", r#"{"z":1,"a":[1.0, 9007199254740993]}"#, APPENDED, "{}"),
                ][..],
            ),
            // The tenant is that of the topic.
            (
                r#"{"metadata":{"deviceid":"a1b2","tenant":"other","protocol":"mqtt","q":1.0,"timestamp":null},"attrs":{"t":1}}"#,
                &[("t", "1", APPENDED, r#"{"protocol":"mqtt","q":1.0}"#)][..],
            ),
            (r#"{"metadata":{"deviceid":"a1b2"},"attrs":{"a":1,"a":2}}"#, &[("a", "2", APPENDED, "{}")][..]),
            (r#"{"metadata":{"deviceid":"a1b2"},"attrs":{}}"#, &[][..]),
            (
                r#"{"metadata":{"deviceid":"a\u0031b2","timestamp":"never"},"attrs":{"\u00fc":"\u00fc"},"more":1}"#,
                &[("ü", r#""\u00fc""#, APPENDED, "{}")][..],
            ),
        ] {
            assert_eq!(samples_of(&Subject::DEVICE_DATA, value), Ok(expected(samples)), "{value}");
        }
    }

    #[test]
    fn an_actuation_becomes_samples_and_other_events_do_not() {
        for (value, samples) in [
            (
                r#"{"event":"configure","data":{"attrs":{"fan":100,"led":"on"},"id":"a1b2"},"meta":{"service":"other","timestamp":1795167058560}}"#,
                &[("fan", "100", 1_795_167_058_560, "{}"), ("led", "\"on\"", 1_795_167_058_560, "{}")][..],
            ),
            (
                r#"{"event":"configure","data":{"id":"a1b2","attrs":{"fan":1},"x":[]},"meta":{"service":"acme"}}"#,
                &[("fan", "1", APPENDED, "{}")][..],
            ),
            (
                r#"{"event":"create","data":{"id":"a1b2","attrs":{"1":[]}},"meta":{"service":"acme"}}"#,
                &[][..],
            ),
            (r#"{"event":"remove","data":{"id":"a1b2"},"meta":{"service":"acme"}}"#, &[][..]),
            (r#"{"event":"template.update","data":{"affected":[]},"meta":{}}"#, &[][..]),
            (r#"{"event":"something new"}"#, &[][..]),
        ] {
            assert_eq!(samples_of(&Subject::DEVICE, value), Ok(expected(samples)), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        let long_name =
            format!(r#"{{"metadata":{{"deviceid":"a1b2"}},"attrs":{{"{}":1}}}}"#, "x".repeat(1025));
        let long_metadata =
            format!(r#"{{"metadata":{{"deviceid":"a1b2","x":"{}"}},"attrs":{{"a":1}}}}"#, "x".repeat(4096));
        for value in [
            "",
            "rubbish",
            "null",
            "[]",
            "{}",
            r#"{"metadata":{"deviceid":"a1b2"}}"#,
            r#"{"attrs":{"t":1}}"#,
            r#"{"metadata":{},"attrs":{"t":1}}"#,
            r#"{"metadata":null,"attrs":{"t":1}}"#,
            r#"{"metadata":{"deviceid":7},"attrs":{"t":1}}"#,
            r#"{"metadata":{"deviceid":""},"attrs":{"t":1}}"#,
            r#"{"metadata":{"deviceid":"a:b"},"attrs":{"t":1}}"#,
            r#"{"metadata":{"deviceid":"a1b2"},"attrs":[1]}"#,
            r#"{"metadata":{"deviceid":"a1b2"},"attrs":null}"#,
            r#"{"metadata":{"deviceid":"a1b2"},"attrs":{"t":1}} trailing"#,
            &long_name,
            &long_metadata,
        ] {
            assert!(samples_of(&Subject::DEVICE_DATA, value).is_err(), "{value}");
        }
        for value in [
            "",
            "{}",
            r#"{"event":"configure"}"#,
            r#"{"event":"configure","data":{"id":"a1b2"}}"#,
            r#"{"event":"configure","data":{"attrs":{"fan":1}}}"#,
            r#"{"event":"configure","data":{"id":"a1b2","attrs":[]}}"#,
        ] {
            assert!(samples_of(&Subject::DEVICE, value).is_err(), "{value}");
        }
    }

    #[test]
    fn identities_are_stable_distinct_and_ordered_as_the_log() {
        let value = r#"{"metadata":{"deviceid":"a1b2"},"attrs":{"a":1}}"#;
        let base = record(&Subject::DEVICE_DATA, value);
        let id = identity(&base, "a");
        assert_eq!(identity(&base.clone(), "a"), id);
        let other_tenant = Topic::new(&Tenant::parse("other").unwrap(), &Subject::DEVICE_DATA);
        for other in [
            identity(&base, "b"),
            identity(&Record { partition: 4, ..base.clone() }, "a"),
            identity(&Record { offset: 78, ..base.clone() }, "a"),
            identity(&Record { timestamp_ms: APPENDED + 1, ..base.clone() }, "a"),
            identity(&Record { topic: other_tenant, ..base.clone() }, "a"),
        ] {
            assert_ne!(other, id);
        }
        let mut last = id;
        for offset in [78, 255, 256, 65_536, 1 << 32, 1 << 39] {
            let next = identity(&Record { offset, ..base.clone() }, "a");
            assert!(next > last, "{offset}");
            last = next;
        }
    }

    #[test]
    fn an_event_that_was_appended_twice_is_one_sample() {
        let value = r#"{"event":"configure","data":{"id":"a1b2","attrs":{"fan":1}},"meta":{"timestamp":5}}"#;
        let with = |id: &str, offset, partition| {
            let base = record(&Subject::DEVICE, value);
            let headers = [(header::EVENT_ID.into(), id.to_owned().into())].into_iter().collect();
            identity(&Record { offset, partition, timestamp_ms: offset, headers, ..base }, "fan")
        };
        let (first, second) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        assert_eq!(with(&first, 1, 0), with(&first, 2, 1));
        assert!(with(&first, 2, 0) < with(&second, 1, 0), "in the order of their events");
        assert_ne!(with("rubbish", 1, 0), with("rubbish", 2, 0));
    }
}
