//! One file per resource.

pub(crate) mod actuation;
pub(crate) mod association;
pub(crate) mod credential;
pub(crate) mod device;
pub(crate) mod device_change;
mod listed;
pub(crate) mod template;

use axum::extract::{FromRequest, Query, Request};
use common::{
    http::{Problem, json},
    wire::DeviceId,
};
use serde_json::Value;

use crate::{domain::listing::integer, error::Error};

/// The parameters of the query string, repeated ones included.
pub(crate) type Parameters = Query<Vec<(String, String)>>;

/// A JSON document of any kind, with the error text of this service.
pub(crate) struct Payload(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        const TEXT: &str = "Payload must be valid JSON, and Content-Type set accordingly";
        let is_json = json::is_json(request.headers());
        let body = json::body(request, state).await?;
        let value = is_json.then(|| serde_json::from_slice(&body).ok()).flatten();
        value.map(Self).ok_or_else(|| Problem::bad_request(TEXT))
    }
}

/// What is no identifier names no device.
fn device_id(text: &str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|_| Error::NoSuchDevice(text.chars().take(80).collect()))
}

fn template_id(text: &str) -> Result<i64, Error> {
    integer(text).ok_or(Error::NotAnId)
}
