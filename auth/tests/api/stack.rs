//! A running service with a database of its own.

use std::collections::HashMap;

use auth::{Config, DEFAULT_CONFIG, Server};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use common::{
    engine::{
        Engines,
        event_log::{Start, Tail, TopicProfile},
    },
    http::{
        Caller, Shape,
        caller::{CallerKind, ServiceCaller},
        client::Service,
        server::{HttpServer, Layers},
    },
    testing::{OwnDatabase, TestEngines, client, eventually},
    wire::{Subject, Tenant, Topic, event::TenancyEvent},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Any, Row};
use uuid::Uuid;

/// Password of the user `admin` in tests.
pub(crate) const ADMIN_PASSWORD: &str = "admin of the tests";

pub(crate) struct Stack {
    pub test: TestEngines,
    pub base: String,
    database: OwnDatabase,
    events: Tail,
}

#[derive(Deserialize)]
struct Settings {
    auth: Config,
}

/// The default settings with a port that is free.
pub(crate) fn config() -> Config {
    let settings: Settings = common::config::load(&[DEFAULT_CONFIG], None).unwrap();
    Config {
        listen: "127.0.0.1:0".to_owned(),
        admin_password: ADMIN_PASSWORD.into(),
        // Nobody is there to confirm.
        removal_confirmed_by: Vec::new(),
        ..settings.auth
    }
}

impl Stack {
    /// The service on each set of engines.
    pub(crate) async fn both(config: &Config) -> Vec<Self> {
        let mut stacks = Vec::new();
        for stack in Self::engines().await {
            stacks.push(stack.with(config).await);
        }
        stacks
    }

    /// Engines without the service.
    pub(crate) async fn engines() -> Vec<Self> {
        let mut stacks = Vec::new();
        for mut test in TestEngines::both().await {
            // The schema of auth is one per database, and these tests need a first start each.
            let database = OwnDatabase::give(&mut test).await;
            let broker = serve_topics(&test.engines).await;
            test.engines.client.urls().set(Service::DataBroker, broker);
            let events = tail_of(&test.engines, &Subject::TENANCY).await;
            stacks.push(Self { test, base: String::new(), database, events });
        }
        stacks
    }

    async fn with(mut self, config: &Config) -> Self {
        let server = Server::bind(config.clone(), self.test.engines.clone()).await.unwrap();
        self.base = self.run(server).await;
        self
    }

    /// Serves and waits until the first start is over. Returns the address.
    pub(crate) async fn run(&self, server: Server) -> String {
        let base = format!("http://{}", server.local_addr().unwrap());
        self.test.engines.shutdown.spawn("auth", server.run());
        eventually("the service is ready", || async { self.test.engines.readiness.is_ready().then_some(()) })
            .await;
        base
    }

    /// Stops everything and removes the database.
    pub(crate) async fn end(self) {
        let shutdown = self.test.engines.shutdown.clone();
        drop(self.events);
        shutdown.drain(std::time::Duration::from_secs(5)).await;
        self.database.remove().await;
    }

    /// Sends a request signed for a caller; returns status and body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        caller: &Caller,
        body: Value,
    ) -> (u16, Value) {
        self.send_to(&self.base, method, path, caller, body).await
    }

    pub(crate) async fn send_to(
        &self,
        base: &str,
        method: Method,
        path: &str,
        caller: &Caller,
        body: Value,
    ) -> (u16, Value) {
        let request = self.test.request(method, base, path, caller);
        let request = if body.is_null() { request } else { request.json(&body) };
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, caller: &Caller) -> (u16, Value) {
        self.send(Method::GET, path, caller, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, caller: &Caller, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, caller, body).await
    }

    pub(crate) async fn put(&self, path: &str, caller: &Caller, body: Value) -> (u16, Value) {
        self.send(Method::PUT, path, caller, body).await
    }

    pub(crate) async fn delete(&self, path: &str, caller: &Caller) -> (u16, Value) {
        self.send(Method::DELETE, path, caller, Value::Null).await
    }

    /// Logs in without any caller, as the gateway lets everybody do.
    pub(crate) async fn log_in(&self, body: &Value) -> (u16, Value) {
        answer(client().post(format!("{}/", self.base)).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn token(&self, username: &str, password: &str) -> String {
        let (status, body) = self.log_in(&json!({"username": username, "passwd": password})).await;
        assert_eq!(status, 200, "{body}");
        body["jwt"].as_str().unwrap().to_owned()
    }

    /// Creates a user; returns the caller he becomes and his first password.
    pub(crate) async fn user(&self, tenant: &Tenant, name: &str, profile: Value) -> (Caller, String) {
        let (status, body) = self.post("/user", &admin(), new_user(tenant, name, profile)).await;
        assert_eq!((status, &body[1]), (200, &json!(200)), "{body}");
        let caller = Caller {
            tenant: tenant.clone(),
            user: name.to_owned(),
            user_id: body[0]["user"]["id"].as_str().unwrap().parse().unwrap(),
            kind: CallerKind::User,
            expires_s: i64::MAX,
            generation: 0,
        };
        (caller, body[0]["initialPassword"].as_str().unwrap().to_owned())
    }

    /// Asks the PDP.
    pub(crate) async fn decide(&self, token: &str, action: &str, resource: &str) -> (u16, Value) {
        self.decide_at(&self.base, token, action, resource).await
    }

    pub(crate) async fn decide_at(
        &self,
        base: &str,
        token: &str,
        action: &str,
        resource: &str,
    ) -> (u16, Value) {
        let question = json!({"jwt": token, "action": action, "resource": resource});
        self.send_to(base, Method::POST, "/pdp", &gateway(), question).await
    }

    /// Rows of a query as lists of texts.
    pub(crate) async fn rows(&self, query: &'static str) -> Vec<String> {
        let readiness = common::http::admin::Readiness::default();
        let engines = &self.test.engines;
        let migrator = sqlx::migrate!("./migrations");
        let sql = engines.sql.open("auth", migrator, readiness.register("x"), &engines.shutdown).unwrap();
        sql.migrated().await;
        let rows = sqlx::query::<Any>(query).fetch_all(sql.pool().unwrap()).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Tenancy events of some tenants, up to and including the first of `last`.
    pub(crate) async fn tenancy_events(&self, tenants: &[&Tenant], last: &Tenant) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let batch = tokio::time::timeout(std::time::Duration::from_secs(30), self.events.next_batch(100));
            for record in batch.await.expect("the events come in time").unwrap() {
                let event: TenancyEvent = serde_json::from_slice(&record.value).unwrap();
                assert_eq!(record.key.as_deref(), Some(event.tenant.as_str().as_bytes()));
                if event.tenant == *last {
                    return seen;
                }
                if tenants.contains(&&event.tenant) {
                    seen.push(String::from_utf8(record.value.to_vec()).unwrap());
                }
            }
        }
    }
}

/// The user of the first start.
pub(crate) fn admin() -> Caller {
    Caller {
        tenant: Tenant::parse("admin").unwrap(),
        user: "admin".to_owned(),
        user_id: 1,
        kind: CallerKind::User,
        expires_s: i64::MAX,
        generation: 0,
    }
}

pub(crate) fn gateway() -> Caller {
    Caller::service("gateway", &Tenant::management())
}

/// A body of `POST /user`.
pub(crate) fn new_user(tenant: &Tenant, name: &str, profile: Value) -> Value {
    json!({
        "username": name,
        "service": tenant,
        "email": format!("{name}@example.com"),
        "name": format!("Name of {name}"),
        "profile": profile,
    })
}

/// The contract's error.
pub(crate) fn refused(status: u16, message: &str) -> (u16, Value) {
    (status, json!({"message": message, "status": status}))
}

/// The contract's answer to what needs no other.
pub(crate) fn ok() -> (u16, Value) {
    (200, json!({"message": "ok", "status": 200}))
}

/// A user name that no other test uses.
pub(crate) fn fresh_name() -> String {
    format!("u{}", &Uuid::new_v4().simple().to_string()[..12])
}

pub(crate) async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| json!({ "not JSON": text })))
}

/// Without the members that differ from run to run.
pub(crate) fn redacted(mut body: Value) -> Value {
    let replacements: HashMap<&str, &str> =
        [("created_date", "[date]"), ("initialPassword", "[password]")].into();
    redact(&mut body, &replacements);
    body
}

fn redact(value: &mut Value, replacements: &HashMap<&str, &str>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match replacements.get(key.as_str()) {
                    Some(text) => *member = (*text).into(),
                    None => redact(member, replacements),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| redact(member, replacements)),
        _ => {}
    }
}

/// What is announced from now on, of all tests.
pub(crate) async fn tail_of(engines: &Engines, subject: &Subject) -> Tail {
    let topic = Topic::new(&Tenant::management(), subject);
    engines.log.create_topic(&topic, PROFILE).await.unwrap();
    let tail = engines.log.tail().unwrap();
    tail.add(&topic, Start::End).await.unwrap();
    tail
}

const PROFILE: TopicProfile = TopicProfile { partitions: 1, replication: 1, retention_ms: 3_600_000 };

/// What auth needs of data-broker.
async fn serve_topics(engines: &Engines) -> String {
    async fn allocate(
        ServiceCaller(caller): ServiceCaller,
        Path(subject): Path<String>,
        State(engines): State<Engines>,
    ) -> Json<Value> {
        let topic = Topic::new(&caller.tenant, &Subject::parse(&subject).unwrap());
        engines.log.create_topic(&topic, PROFILE).await.unwrap();
        Json(json!({ "topic": topic.as_str() }))
    }
    let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
    let base = format!("http://{}", http.local_addr().unwrap());
    let layers = Layers {
        service: "data-broker",
        shape: Shape::Message,
        key: engines.client.key().clone(),
        clock: engines.clock.clone(),
        settings: engines.http,
    };
    let router = Router::new().route("/topic/{subject}", get(allocate)).with_state(engines.clone());
    engines.shutdown.spawn("data-broker", http.run(layers.wrap(router), engines.shutdown.clone()));
    base
}
