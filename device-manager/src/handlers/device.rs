//! Reading devices (dojot-api.md 3.3, 3.4).

use std::vec;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use common::{http::Caller, wire::Tenant};

use super::{Parameters, device_id, listed, template_id};
use crate::{
    AppState,
    domain::{
        device::{Device, Templates},
        listing::{Filter, Page, by_label, ids_only},
    },
    error::Error,
    storage::{Devices, Selection, Store},
    view::DeviceView,
};

/// Devices of a tenant, in the order of a selection.
struct Source {
    store: Store,
    tenant: Tenant,
    by_label: bool,
}

#[derive(Default)]
struct Batch {
    devices: vec::IntoIter<Device>,
    templates: Templates,
}

impl listed::Source for Source {
    type Id = String;
    type Batch = Batch;
    const NAME: &'static str = "devices";

    async fn read(&self, ids: &[String]) -> Result<Batch, Error> {
        let selection = Selection { ids, by_label: self.by_label, ..Selection::default() };
        let Devices { list, templates } = self.store.devices(&self.tenant, &selection).await?;
        Ok(Batch { devices: list.into_iter(), templates })
    }
}

impl listed::Batch for Batch {
    fn write_next(&mut self, out: &mut Vec<u8>) -> serde_json::Result<bool> {
        let Some(device) = self.devices.next() else { return Ok(false) };
        serde_json::to_writer(out, &DeviceView::new(&device, &self.templates))?;
        Ok(true)
    }
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
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let page = Page::read(&parameters, state.limits.max_page_size)?;
    let filter = Filter::read(&parameters)?;
    let by_label = by_label(&parameters);
    let selection = Selection { filter, by_label, page: Some(page), ..Selection::default() };
    if ids_only(&parameters) {
        let turn = state.turns.take(&tenant).await?;
        let _connection = turn.reading().await?;
        return Ok(Json(state.store.device_ids(&tenant, &selection).await?).into_response());
    }
    list(state, tenant, &selection, page).await
}

/// The devices of a template; none when there is no such template.
pub(crate) async fn list_devices_of_template(
    Caller { tenant, .. }: Caller,
    State(state): State<AppState>,
    Path(template): Path<String>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let page = Page::read(&parameters, state.limits.max_page_size)?;
    let filter = Filter { template: Some(template_id(&template)?), ..Filter::default() };
    let selection = Selection { filter, page: Some(page), ..Selection::default() };
    list(state, tenant, &selection, page).await
}

async fn list(
    state: AppState,
    tenant: Tenant,
    selection: &Selection<'_>,
    page: Page,
) -> Result<Response, Error> {
    let AppState { store, turns, shutdown, .. } = state;
    let turn = turns.take(&tenant).await?;
    let connection = turn.reading().await?;
    let (ids, count) = store.device_page(&tenant, selection).await?;
    drop(connection);
    let source = Source { store, tenant, by_label: selection.by_label };
    listed::respond(source, turn, ids, page.of_entries(count), &shutdown).await
}
