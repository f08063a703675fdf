//! Asking a device to change actuators (dojot-connectors.md 3.6).

use axum::{
    Json,
    extract::{Path, Request, State},
};
use common::http::{Caller, json::body};
use serde_json::{Map, Value, json};

use super::device_id;
use crate::{domain::Invalid, error::Error, events, storage::Store};

/// Answers when the event is durable. Any content type will do, as with the original.
pub(crate) async fn actuate_device(
    Caller { tenant, generation, .. }: Caller,
    State(store): State<Store>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Error> {
    let id = device_id(&id)?;
    let body: Map<String, Value> = serde_json::from_slice(&body(request, &()).await?)
        .map_err(|_| Invalid::text("the payload must be a JSON object"))?;
    let Some(Value::Object(attrs)) = body.get("attrs") else {
        return Err(Invalid::text("attrs is missing").into());
    };
    let found = store.device(&tenant, id.as_str()).await?;
    let (device, templates) = found.ok_or_else(|| Error::NoSuchDevice(id.to_string()))?;
    let refused = device.not_configurable(&templates, attrs);
    if !refused.is_empty() {
        return Err(Error::NotConfigurable(refused));
    }
    let mut change = store.change_without_lock(&tenant, generation).await?;
    change.publish(vec![events::configure(&tenant, &id, body, change.now_ms)?]).await?;
    change.commit().await?;
    // The blank in the first name is dojot's, and clients read it.
    let text = "configuration sent to device";
    Ok(Json(json!({ " status": text, "status": text })))
}
