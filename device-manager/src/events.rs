//! What this service publishes: `dojot.device-manager.device` (dojot-api.md 3.6) and
//! `dojot.device-manager.basic-credentials` (dojot-connectors.md 4.4).

use common::{
    engine::outbox::Event,
    wire::{DeviceId, Subject, Tenant, event::DeviceEvent},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::template::Template,
    error::Error,
    view::{DeviceView, TemplateView},
};

/// Largest event, in bytes: what a log with common settings takes, with room for headers.
const MAX_BYTES: usize = 900_000;
/// Most devices that one `template.update` names.
const MAX_AFFECTED: usize = 10_000;

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Remove,
}

#[derive(Serialize)]
struct Message<'a, T> {
    event: &'static str,
    data: T,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    service: &'a Tenant,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

/// A device was created, updated or removed; carries all of it.
pub(crate) fn device<'a>(
    tenant: &'a Tenant,
    kind: Kind,
    device: &DeviceView<'_>,
) -> Result<Event<'a>, Error> {
    let event = match kind {
        Kind::Create => "create",
        Kind::Update => "update",
        Kind::Remove => DeviceEvent::REMOVE,
    };
    let message = Message { event, data: device, meta: Meta { service: tenant, timestamp: None } };
    written(tenant, Subject::DEVICE, Some(key(tenant, device.id)), &message)
}

/// A device is asked to change actuators: the body of the request and the device's identifier.
pub(crate) fn configure<'a>(
    tenant: &'a Tenant,
    id: &DeviceId,
    mut body: Map<String, Value>,
    now_ms: i64,
) -> Result<Event<'a>, Error> {
    body.insert("id".to_owned(), id.as_str().into());
    let meta = Meta { service: tenant, timestamp: Some(now_ms) };
    let message = Message { event: DeviceEvent::CONFIGURE, data: body, meta };
    written(tenant, Subject::DEVICE, Some(key(tenant, id.as_str())), &message)
}

/// A template was changed; several events where the list of its devices would make one too large.
pub(crate) fn template_update<'a>(
    tenant: &'a Tenant,
    template: &Template,
    affected: &[String],
) -> Result<Vec<Event<'a>>, Error> {
    let mut parts: Vec<&[String]> = affected.chunks(MAX_AFFECTED).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let template = serde_json::to_value(TemplateView::from(template)).map_err(Error::internal)?;
    let event = |affected: &[String]| {
        let data = json!({ "affected": affected, "template": template });
        let meta = Meta { service: tenant, timestamp: None };
        written(tenant, Subject::DEVICE, None, &Message { event: "template.update", data, meta })
    };
    parts.into_iter().map(event).collect()
}

/// The password of a device was set (`create`) or is gone (`delete`).
pub(crate) fn credential<'a>(
    tenant: &'a Tenant,
    device: &str,
    operation: &'static str,
    now_ms: i64,
) -> Result<Event<'a>, Error> {
    let message = json!({
        "metadata": {
            "msgid": Uuid::new_v4().to_string(),
            "ts": now_ms,
            "service": "basic-auth",
            "content_type": "application/vnd.dojot.devices.basic-credentials+json",
        },
        "data": { "opr": operation, "tenant": tenant, "device": device },
    });
    written(tenant, Subject::BASIC_CREDENTIALS, Some(key(tenant, device)), &message)
}

/// As [`common::wire::event::device_key`], for identifiers that come from the database.
fn key(tenant: &Tenant, device: &str) -> String {
    format!("{tenant}:{device}")
}

fn written<'a>(
    tenant: &'a Tenant,
    subject: Subject,
    key: Option<String>,
    message: &impl Serialize,
) -> Result<Event<'a>, Error> {
    let value = serde_json::to_string(message).map_err(Error::internal)?;
    if value.len() > MAX_BYTES {
        return Err(Error::EventTooLarge);
    }
    Ok(Event { tenant, subject, key, value })
}
