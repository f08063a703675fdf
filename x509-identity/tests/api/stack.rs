//! A running service with a database of its own.

use std::time::Duration;

use common::{
    engine::event_log::{Headers, NewRecord, Start, Tail},
    http::Caller,
    testing::{OwnDatabase, TEST_TOPIC, TestEngines, eventually, user_of},
    wire::{Subject, Tenant, Topic},
};
use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_identity::{Config, DEFAULT_CONFIG, Server};

use crate::{csr, others::Others};

pub(crate) struct Stack {
    pub(crate) test: TestEngines,
    pub(crate) base: String,
    pub(crate) others: Others,
    database: OwnDatabase,
}

#[derive(Deserialize)]
struct Settings {
    x509_identity: Config,
}

/// The default settings with a free port, and a key that is quickly made.
pub(crate) fn config() -> Config {
    let settings: Settings = common::config::load(&[DEFAULT_CONFIG], None).unwrap();
    Config { listen: "127.0.0.1:0".to_owned(), ca_key_bits: 2048, ..settings.x509_identity }
}

impl Stack {
    /// The service on each set of engines.
    pub(crate) async fn both() -> Vec<Self> {
        let mut stacks = Self::engines().await;
        for stack in &mut stacks {
            stack.base = stack.start().await;
        }
        stacks
    }

    /// Engines without the service.
    pub(crate) async fn engines() -> Vec<Self> {
        let mut stacks = Vec::new();
        for mut test in TestEngines::both().await {
            // The schema is one per database, and these tests need an authority of their own.
            let database = OwnDatabase::give(&mut test).await;
            let others = Others::start(&test.engines).await;
            stacks.push(Self { test, base: String::new(), others, database });
        }
        stacks
    }

    /// Starts an instance of the service and waits until it is ready. Returns its address.
    pub(crate) async fn start(&self) -> String {
        let base = self.start_with(config()).await;
        self.ready(&base).await;
        base
    }

    pub(crate) async fn start_with(&self, config: Config) -> String {
        let server = Server::bind(config, self.test.engines.clone()).await.unwrap();
        let base = format!("http://{}", server.local_addr().unwrap());
        self.test.engines.shutdown.spawn("x509-identity", server.run());
        base
    }

    /// Waits until an instance has the authority, which is the last thing to come.
    pub(crate) async fn ready(&self, base: &str) {
        let caller = user_of(&Tenant::management());
        eventually("the service is ready", || async {
            let request = self.test.request(Method::GET, base, "/api/v1/ca", &caller);
            (answer(request).await.0 == 200 && self.test.engines.readiness.is_ready()).then_some(())
        })
        .await;
    }

    /// Stops everything and removes the database.
    pub(crate) async fn end(self) {
        self.test.engines.shutdown.drain(Duration::from_secs(5)).await;
        self.database.remove().await;
    }

    pub(crate) fn request(&self, method: Method, path: &str, caller: &Caller) -> RequestBuilder {
        // Signed as it is sent: with what a client has to escape.
        let url = Url::parse(&format!("{}{path}", self.base)).unwrap();
        let sent = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        self.test.request(method, &self.base, &sent, caller)
    }

    /// Sends a request as a user of the tenant; returns status and body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        tenant: &Tenant,
        body: Value,
    ) -> (u16, Value) {
        let request = self.request(method, path, &user_of(tenant));
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    pub(crate) async fn get(&self, path: &str, tenant: &Tenant) -> (u16, Value) {
        self.send(Method::GET, path, tenant, Value::Null).await
    }

    pub(crate) async fn post(&self, tenant: &Tenant, body: Value) -> (u16, Value) {
        self.send(Method::POST, CERTIFICATES, tenant, body).await
    }

    pub(crate) async fn patch(&self, fingerprint: &str, tenant: &Tenant, body: Value) -> (u16, Value) {
        self.send(Method::PATCH, &certificate(fingerprint), tenant, body).await
    }

    pub(crate) async fn delete(&self, path: &str, tenant: &Tenant) -> (u16, Value) {
        self.send(Method::DELETE, path, tenant, Value::Null).await
    }

    /// Issues a certificate; returns its fingerprint and PEM.
    pub(crate) async fn issue(&self, tenant: &Tenant, device: Option<&str>) -> (String, String) {
        let mut body = json!({ "csr": csr::for_device(device.unwrap_or("nobody")) });
        if let Some(device) = device {
            body["belongsTo"] = json!({ "device": device });
        }
        let (status, answer) = self.post(tenant, body).await;
        assert_eq!(status, 201, "{:?}: {answer}", self.test);
        let text = |member: &str| answer[member].as_str().unwrap().to_owned();
        (text("certificateFingerprint"), text("certificatePem"))
    }

    /// Asks as one of our services.
    pub(crate) async fn internal(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let caller = Caller::service("iot-agent-mqtt", &Tenant::management());
        let request = self.request(method, &format!("/internal/api/v1{path}"), &caller);
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// The device that owns a certificate, as listeners see it.
    pub(crate) async fn owner(&self, fingerprint: &str) -> Option<(String, String)> {
        let path = format!("/certificates/{fingerprint}");
        match self.internal(Method::GET, &path, Value::Null).await {
            (200, owner) => Some((
                owner["tenant"].as_str().unwrap().to_owned(),
                owner["device"].as_str().unwrap().to_owned(),
            )),
            (status, body) => {
                assert_eq!((status, body), (404, json!({ "error": "Not Found" })));
                None
            }
        }
    }

    /// The authority's certificate in PEM.
    pub(crate) async fn ca(&self, tenant: &Tenant) -> String {
        let (status, body) = self.get("/api/v1/ca", tenant).await;
        assert_eq!(status, 200, "{body}");
        body["caPem"].as_str().unwrap().to_owned()
    }

    /// Reads the events of certificates from now on.
    pub(crate) async fn events(&self, tenant: &Tenant) -> Events {
        let topic = Topic::new(tenant, &Subject::CERTIFICATES);
        self.test.engines.log.create_topic(&topic, TEST_TOPIC).await.unwrap();
        let tail = self.test.engines.log.tail().unwrap();
        tail.add(&topic, Start::End).await.unwrap();
        Events { tail, waiting: Vec::new() }
    }

    /// Publishes an event of device-manager.
    pub(crate) async fn device_event(&self, tenant: &Tenant, value: impl Into<bytes::Bytes>) {
        let topic = Topic::new(tenant, &Subject::DEVICE);
        self.test.engines.log.create_topic(&topic, TEST_TOPIC).await.unwrap();
        let record = NewRecord { topic, key: None, value: value.into(), headers: Headers::new() };
        self.test.engines.log.append(record).await.unwrap();
    }
}

pub(crate) const CERTIFICATES: &str = "/api/v1/certificates";

pub(crate) fn certificate(fingerprint: &str) -> String {
    format!("{CERTIFICATES}/{fingerprint}")
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    read(request.send().await.unwrap()).await
}

pub(crate) async fn read(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
    (status, body.unwrap_or_else(|_| json!({ "not JSON": text })))
}

/// Events of the certificates of one tenant.
pub(crate) struct Events {
    tail: Tail,
    waiting: Vec<(String, Value)>,
}

impl Events {
    /// The next event: its key and value.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        while self.waiting.is_empty() {
            let batch = tokio::time::timeout(Duration::from_secs(30), self.tail.next_batch(100)).await;
            for record in batch.expect("the events come in time").unwrap() {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                self.waiting.push((key, serde_json::from_slice(&record.value).unwrap()));
            }
        }
        self.waiting.remove(0)
    }

    /// The next event in short: kind, fingerprint, owner before, owner after.
    pub(crate) async fn next_short(&mut self) -> (String, String, Value, Value) {
        let data = &self.next().await.1["data"];
        let about = &data["eventData"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&data["eventType"]),
            text(&about["fingerprint"]),
            about["previousBelongsTo"]["device"].clone(),
            about["belongsTo"]["device"].clone(),
        )
    }
}
