//! Templates (dojot-api.md 3.2).

use std::vec;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use common::{http::Caller, wire::Tenant};
use serde_json::json;

use super::{Parameters, Payload, listed, template_id};
use crate::{
    AppState,
    domain::{
        attribute::Attr,
        input::TemplateInput,
        listing::{Filter, Page, by_label, parameter},
        template::{Template, Updated},
    },
    error::Error,
    events::{self, Kind},
    storage::{Change, Selection, Store},
    view::{AttrFormat, DeviceView, TemplateView},
};

/// Devices that are read at a time when their template changes.
const BATCH: i64 = 500;

pub(crate) async fn create_template(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Payload(body): Payload,
) -> Result<Response, Error> {
    let input = TemplateInput::parse(&body)?;
    let mut change = store.change(&tenant, generation).await?;
    let template = change.insert_template(input).await?;
    change.commit().await?;
    Ok(Json(json!({ "result": "ok", "template": TemplateView::from(&template) })).into_response())
}

pub(crate) async fn list_templates(
    Caller { tenant, .. }: Caller,
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Response, Error> {
    let AppState { store, limits, turns, shutdown } = state;
    let page = Page::read(&parameters, limits.max_page_size)?;
    let filter = Filter::read(&parameters)?;
    let format = match parameter(&parameters, "attr_format") {
        Some("split") => AttrFormat::Split,
        Some("single") => AttrFormat::Single,
        _ => AttrFormat::Both,
    };
    let turn = turns.take(&tenant).await?;
    let connection = turn.reading().await?;
    let (ids, count) = store.template_page(&tenant, &filter, by_label(&parameters), page).await?;
    drop(connection);
    let source = Source { store, tenant, format };
    listed::respond(source, turn, ids, page.of_entries(count), &shutdown).await
}

/// Templates of a tenant.
struct Source {
    store: Store,
    tenant: Tenant,
    format: AttrFormat,
}

#[derive(Default)]
struct Batch {
    templates: vec::IntoIter<Template>,
    format: AttrFormat,
}

impl listed::Source for Source {
    type Id = i64;
    type Batch = Batch;
    const NAME: &'static str = "templates";

    async fn read(&self, ids: &[i64]) -> Result<Batch, Error> {
        let templates = self.store.templates(&self.tenant, ids).await?;
        Ok(Batch { templates: templates.into_iter(), format: self.format })
    }
}

impl listed::Batch for Batch {
    fn write_next(&mut self, out: &mut Vec<u8>) -> serde_json::Result<bool> {
        let Some(template) = self.templates.next() else { return Ok(false) };
        serde_json::to_writer(out, &TemplateView::new(&template, self.format))?;
        Ok(true)
    }
}

pub(crate) async fn get_template(
    Caller { tenant, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let number = template_id(&id)?;
    let template = store.template(&tenant, number).await?.ok_or(Error::NoSuchTemplate(id))?;
    Ok(Json(TemplateView::from(&template)).into_response())
}

/// Changes a template and with it all its devices.
pub(crate) async fn update_template(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Result<Response, Error> {
    let number = template_id(&id)?;
    let input = TemplateInput::parse(&body)?;
    let mut change = store.change(&tenant, generation).await?;
    let stored = change.templates([number]).await?.remove(&number).ok_or(Error::NoSuchTemplate(id))?;
    let updated = change.update_template(&stored, input).await?;
    check_conflicts(&mut change, &updated).await?;
    let affected = publish_updates(&mut change, number).await?;
    change.publish(events::template_update(&tenant, &updated.template, &affected)?).await?;
    change.commit().await?;
    Ok(Json(json!({ "result": "ok", "updated": TemplateView::from(&updated.template) })).into_response())
}

/// A device must not get two attributes of one label and type.
async fn check_conflicts(change: &mut Change, updated: &Updated) -> Result<(), Error> {
    if updated.renamed.is_empty() {
        return Ok(());
    }
    let beside = change.names_beside(updated.template.id).await?;
    let conflicts = |attr: &&Attr| beside.contains(&(attr.label.clone(), attr.kind.clone()));
    match updated.template.attrs.iter().find(conflicts) {
        Some(attr) => Err(Error::AttrConflict { label: attr.label.clone(), id: attr.id }),
        None => Ok(()),
    }
}

/// One `update` for each device of a template; returns the devices.
async fn publish_updates(change: &mut Change, template: i64) -> Result<Vec<String>, Error> {
    let tenant = change.tenant().clone();
    let mut affected: Vec<String> = Vec::new();
    loop {
        let selection = Selection {
            filter: Filter { template: Some(template), ..Filter::default() },
            after: affected.last().map(String::as_str),
            page: Some(Page { number: 1, size: BATCH }),
            ..Selection::default()
        };
        let devices = change.devices(&selection).await?;
        let event =
            |device| events::device(&tenant, Kind::Update, &DeviceView::new(device, &devices.templates));
        let events = devices.list.iter().map(event).collect::<Result<_, _>>()?;
        change.publish(events).await?;
        let is_last = (devices.list.len() as i64) < BATCH;
        affected.extend(devices.list.into_iter().map(|device| device.id));
        if is_last {
            return Ok(affected);
        }
    }
}

pub(crate) async fn delete_template(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let number = template_id(&id)?;
    let mut change = store.change(&tenant, generation).await?;
    let template = change.templates([number]).await?.remove(&number).ok_or(Error::NoSuchTemplate(id))?;
    if change.is_in_use(Some(number)).await? {
        return Err(Error::TemplatesInUse);
    }
    change.delete_templates(Some(number)).await?;
    change.commit().await?;
    Ok(Json(json!({ "removed": TemplateView::from(&template), "result": "ok" })).into_response())
}

pub(crate) async fn delete_all_templates(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
) -> Result<Response, Error> {
    let mut change = store.change(&tenant, generation).await?;
    if change.is_in_use(None).await? {
        return Err(Error::TemplatesInUse);
    }
    let templates: Vec<Template> = change.all_templates().await?.into_values().collect();
    change.delete_templates(None).await?;
    change.commit().await?;
    let removed: Vec<_> = templates.iter().map(TemplateView::from).collect();
    Ok(Json(json!({ "removed": removed, "result": "ok" })).into_response())
}
