//! What device-manager knows about devices.

use axum::http::StatusCode;
use common::{
    http::{
        Caller,
        client::{CallError, InternalClient, Service},
    },
    wire::{DeviceId, Tenant},
};
use serde::Deserialize;
use serde_json::Map;

use crate::SERVICE;

/// Asks device-manager. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Devices {
    client: InternalClient,
}

/// A device, as far as it matters here: attributes by template, in device-manager's order.
#[derive(Deserialize)]
struct Device {
    #[serde(default)]
    attrs: Map<String, serde_json::Value>,
}

impl Devices {
    pub(crate) fn new(client: InternalClient) -> Self {
        Self { client }
    }

    /// The names of the attributes of the device's templates, each once; `None` for a device that does not exist.
    pub(crate) async fn attrs_of(
        &self,
        tenant: &Tenant,
        device: &DeviceId,
    ) -> Result<Option<Vec<String>>, CallError> {
        let caller = Caller::service(SERVICE, tenant);
        let path = format!("/device/{device}");
        match self.client.get::<Device>(Service::DeviceManager, &path, &caller).await {
            Ok(device) => Ok(Some(labels(&device))),
            Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn labels(device: &Device) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for attr in device.attrs.values().filter_map(serde_json::Value::as_array).flatten() {
        if let Some(label) = attr.get("label").and_then(serde_json::Value::as_str)
            && !labels.iter().any(|other| other == label)
        {
            labels.push(label.to_owned());
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_of_all_templates_are_found_once() {
        let device = json!({ "id": "a1", "templates": [2, 1], "attrs": {
            "2": [{ "label": "t", "type": "dynamic" }, { "label": "model", "type": "static" }],
            "1": [{ "label": "led", "type": "actuator" }, { "label": "t", "type": "meta" }, { "no": "label" }],
        }});
        let device: Device = serde_json::from_value(device).unwrap();
        assert_eq!(labels(&device), ["t", "model", "led"]);
        let device: Device = serde_json::from_value(json!({ "id": "a1" })).unwrap();
        assert_eq!(labels(&device), [""; 0]);
    }
}
