//! One handler per route.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use common::{
    engine::HistoryStore,
    http::{Caller, Problem},
    wire::DeviceId,
};
use futures_util::stream;
use tracing::warn;

use crate::{
    config::Config,
    devices::Devices,
    domain::{
        accept::{self, Form},
        question::Question,
    },
    error::Error,
    reader::{Answer, Samples},
};

/// Answers with the samples of a device.
pub(crate) async fn list_samples(
    caller: Caller,
    State(config): State<Arc<Config>>,
    State(store): State<HistoryStore>,
    State(devices): State<Devices>,
    Path(device): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = accept::form(accept).ok_or(Error::NotAcceptable)?;
    let question = Question::of(&parameters, config.max_attrs)?;
    let device = DeviceId::parse(&device).map_err(|_| Error::DeviceNotFound)?;
    let is_about_one = question.is_about_one();
    let attrs = attrs_of(&question, &store, &devices, &caller, &device).await?;
    let samples = Samples::new(store.clone(), &caller, device.clone(), attrs, question.window);
    let mut answer = Answer::begin(samples, form, !is_about_one).await?;
    let first = answer.piece().await?.unwrap_or_default();
    if is_about_one && answer.is_complete() && answer.count == 0 {
        let known = is_known(&store, &devices, &caller, &device).await?;
        return Err(if known { Error::AttrNotFound } else { Error::DeviceNotFound }.into());
    }
    let body = if answer.is_complete() { Body::from(first) } else { streamed(first, answer) };
    let content_type = match form {
        Form::Json => "application/json; charset=UTF-8",
        Form::Csv => "text/csv; charset=UTF-8",
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// The attributes to answer with. For one attribute nobody is asked: its samples say that the device is known.
async fn attrs_of(
    question: &Question,
    store: &HistoryStore,
    devices: &Devices,
    caller: &Caller,
    device: &DeviceId,
) -> Result<Vec<String>, Problem> {
    if question.attrs.is_empty() {
        return Ok(devices.attrs_of(&caller.tenant, device).await?.ok_or(Error::DeviceNotFound)?);
    }
    if !question.is_about_one() && !is_known(store, devices, caller, device).await? {
        return Err(Error::DeviceNotFound.into());
    }
    Ok(question.attrs.clone())
}

async fn is_known(
    store: &HistoryStore,
    devices: &Devices,
    Caller { tenant, generation, .. }: &Caller,
    device: &DeviceId,
) -> Result<bool, Problem> {
    Ok(store.has_device(tenant, *generation, device).await?
        || devices.attrs_of(tenant, device).await?.is_some())
}

/// A body that is read while it is sent. When the store fails in the middle, the connection breaks, so that nobody
/// takes half an answer for a whole one.
fn streamed(first: axum::body::Bytes, answer: Answer) -> Body {
    let rest = stream::try_unfold((Some(first), answer), async |(first, mut answer)| {
        let piece = match first {
            Some(first) => Some(first),
            None => answer.piece().await.inspect_err(|error| warn!(%error, "an answer was broken off"))?,
        };
        Ok::<_, common::engine::history_store::HistoryError>(piece.map(|piece| (piece, (None, answer))))
    });
    Body::from_stream(rest)
}

/// No notifications are kept yet, which the contract has an answer for (dojot-api.md 5.3).
pub(crate) async fn list_notifications(_: Caller) -> Problem {
    Error::DeviceNotFound.into()
}
