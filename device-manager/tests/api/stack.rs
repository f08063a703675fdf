//! device-manager with stand-ins for the two services that it asks.

use axum::Router;
use common::{
    config::load,
    engine::event_log::{Record, Start, Tail},
    http::{Caller, client::Service},
    testing::{Neighbours, TEST_TOPIC, TestEngines, client, fresh_tenant, user_of},
    wire::{Subject, Tenant, Topic},
};
use device_manager::{Config, DEFAULT_CONFIG, Server};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) struct Stack {
    pub(crate) engines: TestEngines,
    pub(crate) base: String,
    pub(crate) neighbours: Neighbours,
}

/// The service on both kinds of engines.
pub(crate) async fn stacks() -> Vec<Stack> {
    let mut stacks = Vec::new();
    for engines in TestEngines::both().await {
        stacks.push(Stack::start(engines).await);
    }
    stacks
}

#[derive(Deserialize)]
struct Settings {
    device_manager: Config,
}

pub(crate) fn config() -> Config {
    let settings: Settings = load(&[DEFAULT_CONFIG], None).unwrap();
    let mut config = settings.device_manager;
    "127.0.0.1:0".clone_into(&mut config.listen);
    config.max_page_size = 100;
    config.max_devices_per_request = 600;
    config
}

impl Stack {
    async fn start(engines: TestEngines) -> Self {
        Self::start_with(engines, config()).await
    }

    pub(crate) async fn start_with(engines: TestEngines, config: Config) -> Self {
        let shutdown = engines.engines.shutdown.clone();
        let services = [Service::DataBroker, Service::Auth];
        let neighbours = Neighbours::start(&engines.engines, &services, Router::new()).await;
        let server = Server::bind(config, engines.engines.clone()).await.unwrap();
        let base = format!("http://{}", server.local_addr().unwrap());
        shutdown.spawn("device-manager", server.run());
        let stack = Self { engines, base, neighbours };
        stack.wait_until_ready().await;
        stack
    }

    /// Another instance on the same engines.
    pub(crate) async fn another(&self) {
        let server = Server::bind(config(), self.engines.engines.clone()).await.unwrap();
        self.engines.engines.shutdown.spawn("another", server.run());
    }

    async fn wait_until_ready(&self) {
        let api = self.api(&fresh_tenant());
        common::testing::eventually("the database is ready", async || {
            (api.get("/template").await.0 == 200).then_some(())
        })
        .await;
    }

    /// Ends the service in good order, so that the next test's does not wait for its lease.
    pub(crate) async fn stop(self) {
        let shutdown = self.engines.engines.shutdown.clone();
        assert!(shutdown.drain(std::time::Duration::from_secs(10)).await, "all tasks end");
    }

    /// A client for a user of a tenant.
    pub(crate) fn api(&self, tenant: &Tenant) -> Api<'_> {
        Api { stack: self, caller: user_of(tenant), tenant: tenant.clone() }
    }

    /// A client for a user of a tenant of its own.
    pub(crate) fn fresh(&self) -> Api<'_> {
        self.api(&fresh_tenant())
    }

    pub(crate) async fn topic(&self, tenant: &Tenant, subject: &Subject) -> Topic {
        let topic = Topic::new(tenant, subject);
        self.engines.engines.log.create_topic(&topic, TEST_TOPIC).await.unwrap();
        topic
    }
}

/// What a user of one tenant sends.
pub(crate) struct Api<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) caller: Caller,
    pub(crate) tenant: Tenant,
}

impl Api<'_> {
    /// Status and body as text.
    pub(crate) async fn text(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let mut request = self.stack.engines.request(method, &self.stack.base, path, &self.caller);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Status and body as JSON; null when it is none.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, text) = self.text(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(Method::DELETE, path, None).await
    }

    /// Creates a template and gives it back.
    pub(crate) async fn template(&self, label: &str, attrs: Value) -> Value {
        let (status, mut body) = self.post("/template", json!({ "label": label, "attrs": attrs })).await;
        assert_eq!(status, 200, "{} {body}", self.stack.engines.kind);
        body["template"].take()
    }

    /// Template 1 of most tests: attribute 1 `temperature` with metadata 2 `unit`, 3 `model`, 4 `fan`.
    pub(crate) async fn thermometer(&self) -> Value {
        let unit = json!({ "label": "unit", "type": "meta", "value_type": "string", "static_value": "C" });
        self.template(
            "thermometer",
            json!([
                { "label": "temperature", "type": "dynamic", "value_type": "float", "metadata": [unit] },
                { "label": "model", "type": "static", "value_type": "string", "static_value": "m1" },
                { "label": "fan", "type": "actuator", "value_type": "float" },
            ]),
        )
        .await
    }

    /// Creates a device with this identifier.
    pub(crate) async fn device(&self, id: &str, templates: Value) -> Value {
        let body = json!({ "id": id, "label": format!("device {id}"), "templates": templates });
        let (status, mut body) = self.post("/device?verbose=true", body).await;
        assert_eq!(status, 200, "{} {body}", self.stack.engines.kind);
        body["devices"][0].take()
    }

    /// Reads what is published from now on.
    pub(crate) async fn events(&self, subject: Subject) -> Events {
        let topic = self.stack.topic(&self.tenant, &subject).await;
        let tail = self.stack.engines.engines.log.tail().unwrap();
        tail.add(&topic, Start::End).await.unwrap();
        Events { tail, waiting: Vec::new() }
    }
}

pub(crate) struct Events {
    tail: Tail,
    waiting: Vec<Record>,
}

impl Events {
    /// The next event with its key.
    pub(crate) async fn next(&mut self) -> (Option<String>, Value) {
        if self.waiting.is_empty() {
            let batch = tokio::time::timeout(std::time::Duration::from_secs(40), self.tail.next_batch(100));
            self.waiting = batch.await.expect("an event comes").unwrap();
            self.waiting.reverse();
        }
        let record = self.waiting.pop().unwrap();
        let key = record.key.as_ref().map(|key| String::from_utf8(key.to_vec()).unwrap());
        (key, serde_json::from_slice(&record.value).unwrap())
    }
}

/// Replaces times, which differ between runs, after checking their form.
pub(crate) fn without_times(text: &str) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (name, value) in object.iter_mut() {
                    if matches!(name.as_str(), "created" | "updated") && value.is_string() {
                        let text = value.as_str().unwrap();
                        assert!(text.len() == 32 && text.ends_with("+00:00") && text.as_bytes()[19] == b'.');
                        *value = json!("[time]");
                    }
                    walk(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_str(text).unwrap();
    walk(&mut value);
    // The order of keys is kept.
    serde_json::to_string_pretty(&value).unwrap()
}

/// A request without a caller.
pub(crate) async fn anonymous(stack: &Stack, method: Method, path: &str) -> (u16, Value) {
    let response = client().request(method, format!("{}{path}", stack.base)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

pub(crate) fn error(message: impl Into<Value>) -> Value {
    json!({ "message": message.into(), "status": 400 })
}

pub(crate) fn not_found(message: &str) -> (u16, Value) {
    (404, json!({ "message": message, "status": 404 }))
}
