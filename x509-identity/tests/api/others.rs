//! Stand-ins for data-broker, device-manager and auth.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use common::{
    engine::Engines,
    http::{caller::ServiceCaller, client::Service},
    testing::Neighbours,
    wire::Tenant,
};
use serde_json::json;

/// What the service needs of data-broker, device-manager and auth.
#[derive(Clone)]
pub(crate) struct Others {
    pub(crate) neighbours: Neighbours,
    devices: Devices,
}

type Devices = Arc<Mutex<Known>>;

#[derive(Default)]
struct Known {
    devices: HashSet<(String, String)>,
    device_manager_is_away: bool,
}

impl Others {
    /// On the engines of a test; serves from then on.
    pub(crate) async fn start(engines: &Engines) -> Self {
        let devices = Devices::default();
        let router = Router::new().route("/device/{id}", get(device)).with_state(Arc::clone(&devices));
        let services = [Service::DataBroker, Service::DeviceManager, Service::Auth];
        Self { neighbours: Neighbours::start(engines, &services, router).await, devices }
    }

    /// Adds a device, and its tenant.
    pub(crate) fn add_device(&self, tenant: &Tenant, device: &str) {
        self.neighbours.add_tenant(tenant);
        known(&self.devices).devices.insert((tenant.to_string(), device.to_owned()));
    }

    pub(crate) fn take_device_manager_away(&self, is_away: bool) {
        known(&self.devices).device_manager_is_away = is_away;
    }
}

fn known(devices: &Devices) -> MutexGuard<'_, Known> {
    devices.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn device(
    ServiceCaller(caller): ServiceCaller,
    Path(id): Path<String>,
    State(devices): State<Devices>,
) -> Response {
    let known = known(&devices);
    if known.device_manager_is_away {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    } else if known.devices.contains(&(caller.tenant.to_string(), id.clone())) {
        Json(json!({ "id": id, "label": "a device" })).into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}
