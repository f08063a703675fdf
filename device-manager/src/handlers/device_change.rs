//! Creating, replacing and removing devices (dojot-api.md 3.3).

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use common::{http::Caller, wire::Tenant};
use serde::Serialize;
use serde_json::json;

use super::{Parameters, Payload, device_id};
use crate::{
    config::Limits,
    domain::{
        Invalid,
        device::{Device, Templates, colliding_template, labels, overrides, random_id, wanted_id},
        input::DeviceInput,
        listing::{Parameters as Pairs, integer, is_true, parameter},
    },
    error::Error,
    events::{self, Kind},
    storage::{Change, Selection, Store},
    view::DeviceView,
};

/// Devices that are written with one set of statements.
const BATCH: usize = 200;

/// How many devices to create, and whether to show them whole.
struct Order {
    count: i64,
    verbose: bool,
}

#[derive(Serialize)]
struct Created {
    id: String,
    label: String,
}

/// Creates one device, or `count` alike.
pub(crate) async fn create_device(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    State(limits): State<Limits>,
    parameters: Parameters,
    Payload(body): Payload,
) -> Result<Response, Error> {
    let order = Order::read(&parameters, limits.max_devices_per_request)?;
    let input = DeviceInput::parse(&body)?;
    let wanted = if order.count == 1 { wanted_id(&input)? } else { None };
    let labels = labels(&input.label, order.count)?;
    let mut change = store.change(&tenant, generation).await?;
    let first_id = wanted.clone().unwrap_or_else(random_id);
    let (prototype, templates) = compose(&mut change, input, first_id).await?;
    if order.count == 1 {
        let device = insert_one(&mut change, prototype, wanted.is_some()).await?;
        let view = DeviceView::new(&device, &templates);
        change.publish(vec![events::device(&tenant, Kind::Create, &view)?]).await?;
        change.commit().await?;
        if order.verbose {
            return Ok(Json(json!({ "devices": [view], "message": "device created" })).into_response());
        }
        let created = Created { id: device.id.clone(), label: device.label.clone() };
        return Ok(Json(json!({ "devices": [created], "message": "devices created" })).into_response());
    }
    let created = insert_many(&mut change, &tenant, &prototype, &templates, &labels).await?;
    change.commit().await?;
    Ok(Json(json!({ "devices": created, "message": "devices created" })).into_response())
}

/// A device from what was sent, with the templates that it names.
async fn compose(change: &mut Change, input: DeviceInput, id: String) -> Result<(Device, Templates), Error> {
    let mut template_ids = input.templates.unwrap_or_default();
    let templates = change.templates(template_ids.iter().copied()).await?;
    if let Some(unknown) = template_ids.iter().find(|id| !templates.contains_key(id)) {
        return Err(Error::NoSuchTemplate(unknown.to_string()));
    }
    if let Some(template) = colliding_template(&template_ids, &templates) {
        return Err(Error::TemplateConflict { template, device: id });
    }
    template_ids.sort_unstable();
    let overrides = overrides(&input.overrides, &templates)?;
    let created_ms = change.now_ms;
    let device = Device { id, label: input.label, created_ms, updated_ms: None, template_ids, overrides };
    Ok((device, templates))
}

async fn insert_one(change: &mut Change, device: Device, is_wanted_id: bool) -> Result<Device, Error> {
    if is_wanted_id {
        return if change.insert_device(&device).await? { Ok(device) } else { Err(Error::DeviceIdTaken) };
    }
    let mut devices = [device];
    if !change.insert_devices(&mut devices).await? {
        return Err(Error::NoFreeDeviceId);
    }
    let [device] = devices;
    Ok(device)
}

async fn insert_many(
    change: &mut Change,
    tenant: &Tenant,
    prototype: &Device,
    templates: &Templates,
    labels: &[String],
) -> Result<Vec<Created>, Error> {
    let mut created = Vec::with_capacity(labels.len());
    for labels in labels.chunks(BATCH) {
        let device = |label: &String| Device { id: random_id(), label: label.clone(), ..prototype.clone() };
        let mut devices: Vec<Device> = labels.iter().map(device).collect();
        if !change.insert_devices(&mut devices).await? {
            return Err(Error::NoFreeDeviceId);
        }
        publish(change, tenant, Kind::Create, &devices, templates).await?;
        created.extend(devices.into_iter().map(|device| Created { id: device.id, label: device.label }));
    }
    Ok(created)
}

async fn publish(
    change: &mut Change,
    tenant: &Tenant,
    kind: Kind,
    devices: &[Device],
    templates: &Templates,
) -> Result<(), Error> {
    let event = |device| events::device(tenant, kind, &DeviceView::new(device, templates));
    let events = devices.iter().map(event).collect::<Result<_, _>>()?;
    Ok(change.publish(events).await?)
}

/// Replaces label, templates and overrides; creation time and credentials stay.
pub(crate) async fn update_device(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Result<Response, Error> {
    let id = device_id(&id)?;
    let input = DeviceInput::parse(&body)?;
    if input.templates.is_none() {
        return Err(Invalid::text("templates is missing").into());
    }
    let mut change = store.change(&tenant, generation).await?;
    let stored = change.device(id.as_str()).await?;
    let (stored, _) = stored.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    let (device, templates) = compose(&mut change, input, id.to_string()).await?;
    let device = Device { created_ms: stored.created_ms, updated_ms: Some(change.now_ms), ..device };
    change.update_device(&device).await?;
    let view = DeviceView::new(&device, &templates);
    change.publish(vec![events::device(&tenant, Kind::Update, &view)?]).await?;
    change.commit().await?;
    Ok(Json(json!({ "device": view, "message": "device updated" })).into_response())
}

pub(crate) async fn delete_device(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id = device_id(&id)?;
    let mut change = store.change(&tenant, generation).await?;
    let found = change.device(id.as_str()).await?;
    let (device, templates) = found.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    delete_credentials(&mut change, &tenant, Some(id.as_str())).await?;
    change.delete_devices(Some(id.as_str())).await?;
    let view = DeviceView::new(&device, &templates);
    change.publish(vec![events::device(&tenant, Kind::Remove, &view)?]).await?;
    change.commit().await?;
    Ok(Json(json!({ "removed_device": view, "result": "ok" })).into_response())
}

/// Removes all devices of the tenant.
pub(crate) async fn delete_all_devices(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    State(limits): State<Limits>,
) -> Result<Response, Error> {
    let mut change = store.change(&tenant, generation).await?;
    if change.count_devices().await? > limits.max_devices_per_request {
        return Err(Error::TooManyDevices(limits.max_devices_per_request));
    }
    let devices = change.devices(&Selection::default()).await?;
    delete_credentials(&mut change, &tenant, None).await?;
    change.delete_devices(None).await?;
    for batch in devices.list.chunks(BATCH) {
        publish(&mut change, &tenant, Kind::Remove, batch, &devices.templates).await?;
    }
    change.commit().await?;
    let removed: Vec<_> =
        devices.list.iter().map(|device| DeviceView::new(device, &devices.templates)).collect();
    Ok(Json(Removed { removed_devices: removed, result: "ok" }).into_response())
}

#[derive(Serialize)]
struct Removed<'a> {
    removed_devices: Vec<DeviceView<'a>>,
    result: &'static str,
}

/// Passwords end with their devices, and whoever caches them is told.
async fn delete_credentials(change: &mut Change, tenant: &Tenant, id: Option<&str>) -> Result<(), Error> {
    let gone = change.delete_credentials(id).await?;
    let now_ms = change.now_ms;
    let events = gone.iter().map(|device| events::credential(tenant, device, "delete", now_ms));
    let events = events.collect::<Result<_, _>>()?;
    Ok(change.publish(events).await?)
}

impl Order {
    fn read(parameters: &Pairs, max: i64) -> Result<Self, Error> {
        let count = match parameter(parameters, "count") {
            Some(text) => integer(text).ok_or_else(|| Invalid::text("If provided, count must be integer"))?,
            None => 1,
        };
        let verbose = parameter(parameters, "verbose").is_some_and(is_true);
        if verbose && count != 1 {
            return Err(Invalid::text("Verbose can only be used for single device creation").into());
        }
        if count < 1 {
            return Err(Invalid::text("count must be greater than 0").into());
        }
        if count > max {
            return Err(Error::TooManyDevices(max));
        }
        Ok(Self { count, verbose })
    }
}
