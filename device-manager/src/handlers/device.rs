//! Reading devices (dojot-api.md 3.3, 3.4).

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use common::{http::Caller, wire::Tenant};
use serde::Serialize;

use super::{Parameters, device_id, template_id};
use crate::{
    config::Limits,
    domain::listing::{Filter, Page, Pagination, by_label, ids_only},
    error::Error,
    storage::{Selection, Store},
    view::DeviceView,
};

#[derive(Serialize)]
struct Listed<'a> {
    devices: Vec<DeviceView<'a>>,
    pagination: Pagination,
}

pub(crate) async fn get_device(
    Caller { tenant, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let id = device_id(&id)?;
    let found = store.device(&tenant, id.as_str()).await?;
    let (device, templates) = found.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    Ok(Json(DeviceView::new(&device, &templates)).into_response())
}

/// A page of devices, or of their identifiers.
pub(crate) async fn list_devices(
    Caller { tenant, .. }: Caller,
    State(store): State<Store>,
    State(limits): State<Limits>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let page = Page::read(&parameters, limits.max_page_size)?;
    let filter = Filter::read(&parameters)?;
    let by_label = by_label(&parameters);
    let selection = Selection { filter, by_label, page: Some(page), ..Selection::default() };
    if ids_only(&parameters) {
        return Ok(Json(store.device_ids(&tenant, &selection).await?).into_response());
    }
    list(&store, &tenant, &selection, page).await
}

/// The devices of a template; none when there is no such template.
pub(crate) async fn list_devices_of_template(
    Caller { tenant, .. }: Caller,
    State(store): State<Store>,
    State(limits): State<Limits>,
    Path(template): Path<String>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let page = Page::read(&parameters, limits.max_page_size)?;
    let filter = Filter { template: Some(template_id(&template)?), ..Filter::default() };
    let selection = Selection { filter, page: Some(page), ..Selection::default() };
    list(&store, &tenant, &selection, page).await
}

async fn list(
    store: &Store,
    tenant: &Tenant,
    selection: &Selection<'_>,
    page: Page,
) -> Result<Response, Error> {
    let found = store.devices(tenant, selection).await?;
    let devices = found.list.iter().map(|device| DeviceView::new(device, &found.templates)).collect();
    Ok(Json(Listed { devices, pagination: page.of_entries(found.count) }).into_response())
}
