//! The real router with real stores.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod csv;
mod errors;
mod isolation;
mod samples;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use common::{
    engine::history_store::Sample,
    http::{
        Caller, Shape,
        client::Service,
        server::{HttpServer, Layers},
    },
    testing::{TestEngines, fresh_tenant, user_of},
    wire::{DeviceId, Tenant},
};
use history::{Config, DEFAULT_CONFIG, Server};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

/// A running service with its own tenant.
pub(crate) struct Api {
    pub(crate) test: TestEngines,
    pub(crate) tenant: Tenant,
    base: String,
}

/// Devices that device-manager knows: tenant, device, body.
type Known = Arc<BTreeMap<(String, String), Value>>;

/// One service per kind of engines. Device `known` has the attributes `t`, `h` and `model` in device-manager.
pub(crate) async fn both() -> Vec<Api> {
    let mut apis = Vec::new();
    for test in TestEngines::both().await {
        apis.push(start(test).await);
    }
    apis
}

async fn start(test: TestEngines) -> Api {
    let tenant = fresh_tenant();
    let device = json!({ "id": "known", "templates": [2, 1], "attrs": {
        "2": [{ "label": "t", "type": "dynamic" }, { "label": "model", "type": "static" }],
        "1": [{ "label": "h", "type": "dynamic" }],
    }});
    serve_devices(&test, [((tenant.to_string(), "known".to_owned()), device)].into()).await;
    let config = Config { listen: "127.0.0.1:0".to_owned(), ..default_config() };
    let server = Server::bind(config, test.engines.clone()).await.unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    test.engines.shutdown.spawn("history", server.run());
    Api { test, tenant, base }
}

/// A device-manager that knows some devices, and only for callers of their tenant.
async fn serve_devices(test: &TestEngines, known: BTreeMap<(String, String), Value>) {
    async fn device(
        Caller { tenant, .. }: Caller,
        State(known): State<Known>,
        Path(id): Path<String>,
    ) -> Result<Json<Value>, StatusCode> {
        known.get(&(tenant.to_string(), id)).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
    }
    let engines = &test.engines;
    let router = Router::new().route("/device/{id}", get(device)).with_state(Arc::new(known));
    let layers = Layers {
        service: "device-manager",
        shape: Shape::MessageStatus,
        key: engines.client.key().clone(),
        clock: engines.clock.clone(),
        settings: engines.http,
    };
    let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
    engines.client.urls().set(Service::DeviceManager, format!("http://{}", http.local_addr().unwrap()));
    engines.shutdown.spawn("device-manager", http.run(layers.wrap(router), engines.shutdown.clone()));
}

fn default_config() -> Config {
    #[derive(Deserialize)]
    struct Settings {
        history: Config,
    }
    common::config::load::<Settings>(&[DEFAULT_CONFIG], None).unwrap().history
}

impl Api {
    /// A request of a user of the tenant.
    pub(crate) fn request(&self, path: &str) -> RequestBuilder {
        self.test.request(Method::GET, &self.base, path, &user_of(&self.tenant))
    }

    /// A request of somebody else.
    pub(crate) fn request_of(&self, tenant: &Tenant, path: &str) -> RequestBuilder {
        self.test.request(Method::GET, &self.base, path, &user_of(tenant))
    }

    /// A request without a caller.
    pub(crate) fn anonymous(&self, path: &str) -> RequestBuilder {
        common::testing::client().get(format!("{}{path}", self.base))
    }

    /// Status and JSON body.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.request(path).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The values of the items of a bare array.
    pub(crate) async fn values(&self, path: &str) -> String {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path} {body} {:?}", self.test);
        let values = body.as_array().unwrap().iter().map(|item| item["value"].to_string());
        values.collect::<Vec<_>>().join(" ")
    }

    /// Stores values of an attribute, one per second from `first_ms` on.
    pub(crate) async fn store(&self, device: &str, attr: &str, first_ms: i64, values: &[&str]) {
        let samples: Vec<Sample> = values
            .iter()
            .enumerate()
            .map(|(index, value)| self.sample(device, attr, first_ms + 1000 * index as i64, value))
            .collect();
        self.test.engines.history.insert(&samples).await.unwrap();
    }

    /// A sample with an identity of its own.
    pub(crate) fn sample(&self, device: &str, attr: &str, ts_ms: i64, value: &str) -> Sample {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&ts_ms.to_be_bytes());
        for (index, byte) in format!("{}{device}{attr}", self.tenant).bytes().enumerate() {
            id[8 + index % 8] = id[8 + index % 8].wrapping_mul(31) ^ byte;
        }
        Sample {
            tenant: self.tenant.clone(),
            generation: 0,
            device: DeviceId::parse(device).unwrap(),
            attr: attr.to_owned(),
            value: value.to_owned(),
            ts_ms,
            metadata: "{}".to_owned(),
            id,
        }
    }
}

/// An hour ago, at a full second: samples of the past may expire.
pub(crate) fn base_ms() -> i64 {
    (common::clock::Clock::system().now_s() - 3600) * 1000
}

/// As the contract writes it.
pub(crate) fn ts(ms: i64) -> String {
    common::wire::date::format_ms(ms)
}
