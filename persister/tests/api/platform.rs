//! As much of the platform as persister needs: auth's list of tenants and data-broker's topics.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use common::{
    engine::{
        EventLog,
        event_log::{Headers, NewRecord, Record, TopicProfile},
        history_store::{Sample, Window},
    },
    http::{
        Caller, Shape,
        client::Service,
        server::{HttpServer, Layers},
    },
    testing::{TestEngines, eventually, fresh_tenant},
    wire::{DeviceId, Subject, Tenant, Topic, event::device_key},
};
use persister::{Config, DEFAULT_CONFIG, Server};
use serde::Deserialize;
use serde_json::{Value, json};

/// A running persister with its own tenant and its own tenancy topic.
pub(crate) struct Platform {
    pub(crate) test: TestEngines,
    pub(crate) tenant: Tenant,
    tenants: Tenants,
    tenancy: Topic,
}

type Tenants = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
struct Fakes {
    log: EventLog,
    tenants: Tenants,
    tenancy: Topic,
}

/// One platform per kind of engines.
pub(crate) async fn both() -> Vec<Platform> {
    let mut platforms = Vec::new();
    for test in TestEngines::both().await {
        platforms.push(Platform::start(test).await);
    }
    platforms
}

impl Platform {
    async fn start(test: TestEngines) -> Self {
        let tenant = fresh_tenant();
        let tenants = Arc::new(Mutex::new(vec![tenant.to_string()]));
        // Other tests must not see the tenants of this one.
        let tenancy = Subject::parse(&format!("dojot.tenancy.{tenant}")).unwrap();
        let tenancy = Topic::new(&Tenant::management(), &tenancy);
        let fakes =
            Fakes { log: test.engines.log.clone(), tenants: Arc::clone(&tenants), tenancy: tenancy.clone() };
        serve(&test, fakes).await;
        let server = Server::bind(default_config(), test.engines.clone()).await.unwrap();
        test.engines.shutdown.spawn("persister", server.run());
        Self { test, tenant, tenants, tenancy }
    }

    pub(crate) fn topic(&self, subject: &Subject) -> Topic {
        Topic::new(&self.tenant, subject)
    }

    /// Appends a record of a device.
    pub(crate) async fn append(&self, subject: &Subject, device: &str, value: impl Into<String>) {
        let topic = self.topic(subject);
        self.test.engines.log.create_topic(&topic, PROFILE).await.unwrap();
        let key = device_key(&self.tenant, &DeviceId::parse(device).unwrap());
        self.append_to(topic, Some(key), value.into()).await;
    }

    async fn append_to(&self, topic: Topic, key: Option<String>, value: String) {
        let key = key.map(Into::into);
        let record = NewRecord { topic, key, value: value.into(), headers: Headers::new() };
        self.test.engines.log.append(record).await.unwrap();
    }

    pub(crate) async fn samples(&self, device: &str, attr: &str) -> Vec<Sample> {
        let device = DeviceId::parse(device).unwrap();
        let window = Window { oldest_first: true, ..Window::default() };
        self.test.engines.history.query(&self.tenant, &device, attr, window).await.unwrap()
    }

    /// Waits until an attribute has so many samples.
    pub(crate) async fn stored(&self, device: &str, attr: &str, count: usize) -> Vec<Sample> {
        eventually(&format!("{count} samples of {attr} with {:?}", self.test), async || {
            let samples = self.samples(device, attr).await;
            (samples.len() >= count).then_some(samples)
        })
        .await
    }

    /// Reads a topic from its beginning until there are so many records.
    pub(crate) async fn read(&self, subject: &Subject, count: usize) -> Vec<Record> {
        let mut group = self.test.engines.log.group(&format!("again-{}", self.tenant)).unwrap();
        group.subscribe(&[self.topic(subject)]).unwrap();
        let mut records = Vec::new();
        let read = async {
            while records.len() < count {
                records.extend(group.next_batch(100).await.unwrap());
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect("the records are there");
        records
    }

    /// Deletes the tenant, or creates it again.
    pub(crate) async fn announce(&self, kind: &str) {
        {
            let mut tenants = self.tenants.lock().unwrap();
            tenants.clear();
            if kind == "CREATE" {
                tenants.push(self.tenant.to_string());
            }
        }
        let event = json!({ "type": kind, "tenant": self.tenant }).to_string();
        self.append_to(self.tenancy.clone(), None, event).await;
    }
}

const PROFILE: TopicProfile = TopicProfile { partitions: 2, replication: 1, retention_ms: 3_600_000 };

fn default_config() -> Config {
    #[derive(Deserialize)]
    struct Settings {
        persister: Config,
    }
    common::config::load::<Settings>(&[DEFAULT_CONFIG], None).unwrap().persister
}

async fn serve(test: &TestEngines, fakes: Fakes) {
    let engines = &test.engines;
    let router = Router::new()
        .route("/topic/{subject}", get(allocate_topic))
        .route("/admin/tenants", get(list_tenants))
        .with_state(fakes);
    let layers = Layers {
        service: "platform",
        shape: Shape::Message,
        key: engines.client.key().clone(),
        clock: engines.clock.clone(),
        settings: engines.http,
    };
    let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
    let url = format!("http://{}", http.local_addr().unwrap());
    engines.client.urls().set(Service::Auth, url.clone());
    engines.client.urls().set(Service::DataBroker, url);
    engines.shutdown.spawn("platform", http.run(layers.wrap(router), engines.shutdown.clone()));
}

async fn allocate_topic(
    Caller { tenant, .. }: Caller,
    State(fakes): State<Fakes>,
    Path(subject): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let subject = Subject::parse(&subject).map_err(|_| StatusCode::NOT_FOUND)?;
    let topic = if subject == Subject::TENANCY { fakes.tenancy } else { Topic::new(&tenant, &subject) };
    fakes.log.create_topic(&topic, PROFILE).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(json!({ "topic": topic.as_str() })))
}

async fn list_tenants(State(fakes): State<Fakes>) -> Json<Value> {
    Json(json!({ "tenants": *fakes.tenants.lock().unwrap() }))
}
