//! Adding a template to a device and taking it away (dojot-api.md 3.3).

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use common::{http::Caller, wire::Tenant};
use serde_json::json;

use super::{device_id, template_id};
use crate::{
    domain::{
        attribute::Attr,
        device::{Device, Templates},
    },
    error::Error,
    events::{self, Kind},
    storage::{Change, Store},
    view::DeviceView,
};

/// Adds a template; one that is there already changes nothing.
pub(crate) async fn add_template(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path((id, template)): Path<(String, String)>,
) -> Result<Response, Error> {
    let (id, number) = (device_id(&id)?, template_id(&template)?);
    let mut change = store.change(&tenant, generation).await?;
    let found = change.device(id.as_str()).await?;
    let (mut device, mut templates) = found.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    if templates.contains_key(&number) {
        return Ok(answer(&device, &templates));
    }
    let added = change.templates([number]).await?.remove(&number).ok_or(Error::NoSuchTemplate(template))?;
    if templates.values().any(|other| added.collides_with(other)) {
        return Err(Error::TemplateConflict { template: number, device: id.to_string() });
    }
    templates.insert(number, added);
    device.template_ids = templates.keys().copied().collect();
    save(change, &tenant, &device, &templates).await?;
    Ok(answer(&device, &templates))
}

/// Takes a template away, and with it what the device had overridden.
pub(crate) async fn remove_template(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path((id, template)): Path<(String, String)>,
) -> Result<Response, Error> {
    let (id, number) = (device_id(&id)?, template_id(&template)?);
    let mut change = store.change(&tenant, generation).await?;
    let found = change.device(id.as_str()).await?;
    let (mut device, mut templates) = found.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    let Some(removed) = templates.remove(&number) else {
        return Err(Error::NotAssociated { device: id.to_string(), template });
    };
    for attr in removed.attrs.iter().flat_map(Attr::all_ids) {
        device.overrides.remove(&attr);
    }
    device.template_ids = templates.keys().copied().collect();
    save(change, &tenant, &device, &templates).await?;
    Ok(answer(&device, &templates))
}

/// `updated` stays as it is (dojot-api.md 10.18).
async fn save(
    mut change: Change,
    tenant: &Tenant,
    device: &Device,
    templates: &Templates,
) -> Result<(), Error> {
    change.update_device(device).await?;
    let view = DeviceView::new(device, templates);
    change.publish(vec![events::device(tenant, Kind::Update, &view)?]).await?;
    Ok(change.commit().await?)
}

fn answer(device: &Device, templates: &Templates) -> Response {
    let device = DeviceView::new(device, templates);
    Json(json!({ "device": device, "message": "device updated" })).into_response()
}
