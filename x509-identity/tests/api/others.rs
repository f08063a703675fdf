//! Stand-ins for data-broker, device-manager and auth.

use std::{
    collections::{BTreeSet, HashSet},
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
    engine::{
        Engines,
        event_log::{Headers, NewRecord, TopicProfile},
    },
    http::{
        Shape,
        caller::ServiceCaller,
        client::Service,
        server::{HttpServer, Layers},
    },
    wire::{Subject, Tenant, Topic},
};
use serde_json::{Value, json};

pub(crate) const PROFILE: TopicProfile =
    TopicProfile { partitions: 1, replication: 1, retention_ms: 3_600_000 };

/// What the service needs of data-broker, device-manager and auth.
#[derive(Clone)]
pub(crate) struct Others {
    engines: Engines,
    state: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    tenants: BTreeSet<String>,
    devices: HashSet<(String, String)>,
    device_manager_is_away: bool,
}

impl Others {
    /// On the engines of a test; serves from then on.
    pub(crate) async fn start(engines: &Engines) -> Self {
        let others = Self { engines: engines.clone(), state: Arc::default() };
        others.serve().await;
        others
    }

    /// Adds a device, and its tenant.
    pub(crate) fn add_device(&self, tenant: &Tenant, device: &str) {
        let mut known = self.known();
        known.tenants.insert(tenant.to_string());
        known.devices.insert((tenant.to_string(), device.to_owned()));
    }

    pub(crate) fn take_device_manager_away(&self, is_away: bool) {
        self.known().device_manager_is_away = is_away;
    }

    /// Tells everybody that a tenant is gone.
    pub(crate) async fn remove_tenant(&self, tenant: &Tenant) {
        self.known().tenants.remove(tenant.as_str());
        let topic = Topic::new(&Tenant::management(), &Subject::TENANCY);
        self.engines.log.create_topic(&topic, PROFILE).await.unwrap();
        let value = json!({ "type": "DELETE", "tenant": tenant }).to_string().into();
        let record = NewRecord { topic, key: None, value, headers: Headers::new() };
        self.engines.log.append(record).await.unwrap();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self) {
        let http = HttpServer::bind("127.0.0.1:0", self.engines.http).await.unwrap();
        let base = format!("http://{}", http.local_addr().unwrap());
        let layers = Layers {
            service: "others",
            shape: Shape::Message,
            key: self.engines.client.key().clone(),
            clock: self.engines.clock.clone(),
            settings: self.engines.http,
        };
        let router = Router::new()
            .route("/topic/{subject}", get(Self::topic))
            .route("/device/{id}", get(Self::device))
            .route("/admin/tenants", get(Self::tenants))
            .with_state(self.clone());
        let shutdown = &self.engines.shutdown;
        shutdown.spawn("others", http.run(layers.wrap(router), shutdown.clone()));
        for service in [Service::DataBroker, Service::DeviceManager, Service::Auth] {
            self.engines.client.urls().set(service, base.clone());
        }
    }

    async fn topic(
        ServiceCaller(caller): ServiceCaller,
        Path(subject): Path<String>,
        State(others): State<Self>,
    ) -> Json<Value> {
        let topic = Topic::new(&caller.tenant, &Subject::parse(&subject).unwrap());
        others.engines.log.create_topic(&topic, PROFILE).await.unwrap();
        Json(json!({ "topic": topic.as_str() }))
    }

    #[expect(clippy::unused_async, reason = "a handler has to be")]
    async fn device(
        ServiceCaller(caller): ServiceCaller,
        Path(id): Path<String>,
        State(others): State<Self>,
    ) -> Response {
        let known = others.known();
        if known.device_manager_is_away {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        } else if known.devices.contains(&(caller.tenant.to_string(), id.clone())) {
            Json(json!({ "id": id, "label": "a device" })).into_response()
        } else {
            StatusCode::NOT_FOUND.into_response()
        }
    }

    #[expect(clippy::unused_async, reason = "a handler has to be")]
    async fn tenants(_: ServiceCaller, State(others): State<Self>) -> Json<Value> {
        Json(json!({ "tenants": others.known().tenants }))
    }
}
