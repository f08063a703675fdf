//! What crosses a service boundary is read back as it was written, and names follow their rules. The input is tried as
//! each of them.

use std::{fmt::Debug, sync::LazyLock};

use regex::Regex;
use serde::{Serialize, de::DeserializeOwned};

use crate::wire::{
    Claims, DeviceId, Subject, Tenant, Topic, date,
    event::{
        AuditEvent, DeviceData, DeviceEvent, OwnershipEvent, Revocation, TenancyEvent,
        device_data::{self, Metadata},
    },
};

/// Checks one input.
pub fn check(data: &[u8]) {
    names(data);
    dates(data);
    survives::<Claims>(data);
    survives::<AuditEvent>(data);
    survives::<OwnershipEvent>(data);
    survives::<DeviceEvent>(data);
    survives::<Revocation>(data);
    survives::<TenancyEvent>(data);
    reading(data);
}

fn names(data: &[u8]) {
    static TENANT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[a-z][a-z0-9_]{0,29}\z").unwrap());
    static SUBJECT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[A-Za-z0-9._-]{1,200}\z").unwrap());
    static DEVICE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[A-Za-z0-9_-]{1,64}\z").unwrap());
    let Ok(text) = str::from_utf8(data) else { return };
    assert_eq!(Tenant::parse(text).is_ok(), TENANT.is_match(text), "tenant {text:?}");
    assert_eq!(Subject::parse(text).is_ok(), SUBJECT.is_match(text), "subject {text:?}");
    assert_eq!(DeviceId::parse(text).is_ok(), DEVICE.is_match(text), "device {text:?}");
    let expected = text.split_once('.').filter(|(tenant, subject)| {
        (TENANT.is_match(tenant) || *tenant == "dojot-management") && SUBJECT.is_match(subject)
    });
    let topic = Topic::parse(text).ok();
    let found = topic.as_ref().map(|topic| (topic.tenant().as_str(), topic.subject()));
    assert_eq!(found, expected, "topic {text:?}");
    if let Some(topic) = topic {
        let subject = Subject::parse(topic.subject()).unwrap();
        assert_eq!(Topic::new(topic.tenant(), &subject), topic);
    }
}

fn dates(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(ms) = date::parse_ms(text) {
        assert!(date::is_writable(ms), "{text:?} is {ms}");
        let written = date::format_ms(ms);
        assert_eq!(date::parse_ms(&written), Some(ms), "{text:?} is {written:?}");
    }
}

fn survives<T: Serialize + DeserializeOwned + Debug>(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&read).unwrap();
    let again: T = serde_json::from_slice(&written).unwrap();
    assert_eq!(format!("{again:?}"), format!("{read:?}"));
}

/// `attrs` and `metadata` of a reading are passed on as they came, within what is a reading again.
fn reading(data: &[u8]) {
    let Ok(DeviceData { attrs, metadata }) = serde_json::from_slice(data) else { return };
    let Ok(Metadata { deviceid, .. }) = serde_json::from_str(metadata.get()) else { return };
    let Ok(device) = DeviceId::parse(&deviceid) else { return };
    let tenant = Tenant::parse("admin").unwrap();
    let written = device_data::encode(&tenant, &device, 1, attrs.get().as_bytes());
    let again: DeviceData<'_> = serde_json::from_slice(&written).unwrap();
    assert_eq!(again.attrs.get(), attrs.get());
    let again: Metadata<'_> = serde_json::from_str(again.metadata.get()).unwrap();
    assert_eq!(again.deviceid, deviceid);
}
