//! The agent with stand-ins for auth, data-broker, device-manager and x509-identity.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use bytes::Bytes;
use common::{
    engine::{
        EventLog,
        event_log::{Headers, NewRecord, Record, Start, Tail},
    },
    http::{Caller, client::Service},
    testing::{Neighbours, TestEngines, eventually, fresh_tenant},
    wire::{Subject, Tenant, Topic},
};
use futures_util::FutureExt;
use iot_agent_mqtt::{Config, Server};
use serde_json::{Value, json};

use crate::{
    client::{Client, Hello},
    tls::Authority,
};

/// Which of the tenants that have had the name the stand-ins say it is.
pub(crate) const GENERATION: i64 = 7;

pub(crate) const PASSWORD: &str = "correct horse";

/// What the stand-ins know. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Known {
    log: EventLog,
    /// User name to password.
    pub(crate) passwords: Arc<Mutex<HashMap<String, String>>>,
    /// Fingerprint to tenant and device.
    pub(crate) owners: Arc<Mutex<HashMap<String, (String, String)>>>,
    /// Whether device-manager answers nobody.
    pub(crate) away: Arc<AtomicBool>,
    /// Whether the authority is still being made.
    pub(crate) no_authority: Arc<AtomicBool>,
    /// When it was asked for a certificate.
    pub(crate) asked: Arc<Mutex<Vec<Instant>>>,
    pub(crate) authority: Arc<Authority>,
}

/// A running agent and what is around it.
pub(crate) struct Platform {
    pub(crate) engines: TestEngines,
    pub(crate) known: Known,
    pub(crate) neighbours: Neighbours,
    pub(crate) tenant: Tenant,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    records: Tail,
}

pub(crate) fn config() -> Config {
    let settings: HashMap<String, Config> =
        common::config::load(&[iot_agent_mqtt::DEFAULT_CONFIG], None).unwrap();
    let config = settings["iot_agent_mqtt"].clone();
    Config {
        listen: "127.0.0.1:0".to_owned(),
        listen_tls: "127.0.0.1:0".to_owned(),
        connect_timeout_ms: 3000,
        max_connections_per_device: 4,
        ..config
    }
}

impl Platform {
    pub(crate) async fn start(engines: TestEngines) -> Self {
        Self::start_with(engines, config()).await
    }

    pub(crate) async fn start_with(engines: TestEngines, config: Config) -> Self {
        let tenant = fresh_tenant();
        let known = Known {
            log: engines.engines.log.clone(),
            passwords: Arc::default(),
            owners: Arc::default(),
            away: Arc::default(),
            no_authority: Arc::default(),
            asked: Arc::default(),
            authority: Arc::new(Authority::new()),
        };
        let neighbours = serve_stand_ins(&engines, known.clone()).await;
        neighbours.add_tenant(&tenant);
        let (plain, tls) = start_agent(&engines, config).await;
        let records = engines.engines.log.tail().unwrap();
        let mut platform = Self { engines, known, neighbours, tenant, plain, tls, records };
        platform.follow(&Subject::DEVICE_DATA).await;
        for device in ["d1", "d2"] {
            platform.know(&platform.tenant.clone(), device);
        }
        platform
    }

    async fn follow(&mut self, subject: &Subject) {
        let topic = Topic::new(&self.tenant, subject);
        self.neighbours.create_topic(&topic).await;
        let records = &self.records;
        // A new topic may need a moment.
        eventually("the topic can be read", || records.add(&topic, Start::At(0)).map(Result::ok)).await;
    }

    /// Another instance of the agent, with a memory of its own.
    pub(crate) async fn another_agent(&self) -> SocketAddr {
        start_agent(&self.engines, config()).await.0
    }

    /// A device that may connect with [`PASSWORD`].
    pub(crate) fn know(&self, tenant: &Tenant, device: &str) {
        self.neighbours.add_tenant(tenant);
        self.known.passwords.lock().unwrap().insert(format!("{tenant}@{device}"), PASSWORD.to_owned());
    }

    pub(crate) fn hello(&self, device: &str) -> Hello {
        Hello::new("client", &format!("{}@{device}", self.tenant), PASSWORD)
    }

    pub(crate) async fn connect(&self, device: &str) -> Client {
        Client::connect(self.plain, &self.hello(device)).await
    }

    pub(crate) fn attrs(&self, device: &str) -> String {
        format!("{}:{device}/attrs", self.tenant)
    }

    pub(crate) fn config_topic(&self, device: &str) -> String {
        format!("{}:{device}/config", self.tenant)
    }

    /// The next `count` records of devices.
    pub(crate) async fn records(&self, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        while records.len() < count {
            let batch =
                tokio::time::timeout(std::time::Duration::from_secs(20), self.records.next_batch(1000));
            records.extend(batch.await.expect("a record in time").unwrap());
        }
        assert_eq!(records.len(), count);
        records
    }

    /// The next record of a device, read.
    pub(crate) async fn reading(&self) -> Value {
        serde_json::from_slice(&self.records(1).await[0].value).unwrap()
    }

    /// Announces something as one of the other services would.
    pub(crate) async fn announce(&self, subject: &Subject, event: &Value) {
        let topic = Topic::new(&self.tenant, subject);
        self.neighbours.create_topic(&topic).await;
        let value = Bytes::from(serde_json::to_vec(event).unwrap());
        let record = NewRecord { topic, key: None, value, headers: Headers::new() };
        self.known.log.append(record).await.unwrap();
    }

    /// Announces an actuation.
    pub(crate) async fn configure(&self, device: &str, attrs: &Value) {
        let event = json!({
            "event": "configure",
            "data": { "id": device, "attrs": attrs },
            "meta": { "service": self.tenant, "timestamp": 1 }
        });
        self.announce(&Subject::DEVICE, &event).await;
    }
}

async fn start_agent(engines: &TestEngines, config: Config) -> (SocketAddr, SocketAddr) {
    let server = Server::bind(config, engines.engines.clone()).await.unwrap();
    let addresses = (server.local_addr().unwrap(), server.local_addr_tls().unwrap());
    engines.engines.shutdown.spawn("agent", server.run());
    addresses
}

async fn serve_stand_ins(engines: &TestEngines, known: Known) -> Neighbours {
    let router = Router::new()
        .route("/basic-auth/v1/internal/authentication", post(authenticate))
        .route("/internal/api/v1/server-certificates", post(issue))
        .route("/internal/api/v1/certificates/{fingerprint}", get(owner))
        .route("/internal/api/v1/ca-bundle", get(bundle))
        .with_state(known);
    let services = [Service::Auth, Service::DataBroker, Service::DeviceManager, Service::X509Identity];
    Neighbours::start(&engines.engines, &services, router).await
}

async fn authenticate(
    caller: Caller,
    State(known): State<Known>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    assert!(caller.tenant.is_management());
    if known.away.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    let name = body["username"].as_str().unwrap();
    let good =
        known.passwords.lock().unwrap().get(name).is_some_and(|password| body["password"] == **password);
    if !good {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "message": "The credential is invalid." })));
    }
    let (tenant, device) = name.split_once('@').unwrap();
    (
        StatusCode::OK,
        Json(
            json!({ "message": "The credential is valid.", "tenant": tenant, "device": device, "generation": GENERATION }),
        ),
    )
}

async fn issue(_: Caller, State(known): State<Known>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    known.asked.lock().unwrap().push(Instant::now());
    if known.no_authority.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    let certificate = known.authority.sign(body["csr"].as_str().unwrap());
    let answer = json!({ "certificatePem": certificate, "caPem": known.authority.pem() });
    (StatusCode::CREATED, Json(answer))
}

async fn owner(
    _: Caller,
    State(known): State<Known>,
    Path(fingerprint): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let owners = known.owners.lock().unwrap();
    let (tenant, device) = owners.get(&fingerprint).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "tenant": tenant, "device": device, "generation": GENERATION })))
}

async fn bundle(_: Caller, State(known): State<Known>) -> Json<Value> {
    Json(json!({ "pem": known.authority.pem() }))
}

/// Waits until the agent is ready.
pub(crate) async fn ready(platform: &Platform) {
    let readiness = platform.engines.engines.readiness.clone();
    eventually("the agent is ready", || async { readiness.is_ready().then_some(()) }).await;
}
