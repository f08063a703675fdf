//! As much of the platform as persister needs: auth's list of tenants and data-broker's topics.

use axum::Router;
use common::{
    engine::{
        event_log::{NewRecord, Record, generation_header},
        history_store::{Sample, Window},
    },
    http::client::Service,
    testing::{Neighbours, TEST_TOPIC, TestEngines, eventually, fresh_tenant},
    wire::{DeviceId, Subject, Tenant, Topic, event::device_key},
};
use persister::{Config, DEFAULT_CONFIG, Server};
use serde::Deserialize;

/// A running persister with its own tenant.
pub(crate) struct Platform {
    pub(crate) test: TestEngines,
    pub(crate) tenant: Tenant,
    pub(crate) neighbours: Neighbours,
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
        let services = [Service::DataBroker, Service::Auth];
        let neighbours = Neighbours::start(&test.engines, &services, Router::new()).await;
        neighbours.add_tenant(&tenant);
        let server = Server::bind(default_config(), test.engines.clone()).await.unwrap();
        test.engines.shutdown.spawn("persister", server.run());
        Self { test, tenant, neighbours }
    }

    pub(crate) fn topic(&self, subject: &Subject) -> Topic {
        Topic::new(&self.tenant, subject)
    }

    /// Appends a record of a device.
    pub(crate) async fn append(&self, subject: &Subject, device: &str, value: impl Into<String>) {
        self.append_for(0, subject, device, value).await;
    }

    /// The same, for one of the tenants that have had the name.
    pub(crate) async fn append_for(
        &self,
        generation: i64,
        subject: &Subject,
        device: &str,
        value: impl Into<String>,
    ) {
        let topic = self.topic(subject);
        self.test.engines.log.create_topic(&topic, TEST_TOPIC).await.unwrap();
        let key = Some(device_key(&self.tenant, &DeviceId::parse(device).unwrap()).into());
        let headers = generation_header(generation).into_iter().collect();
        let record = NewRecord { topic, key, value: value.into().into(), headers };
        self.test.engines.log.append(record).await.unwrap();
    }

    pub(crate) async fn samples(&self, device: &str, attr: &str) -> Vec<Sample> {
        let device = DeviceId::parse(device).unwrap();
        let window = Window { oldest_first: true, ..Window::default() };
        self.test.engines.history.query(&self.tenant, 0, &device, attr, window).await.unwrap()
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
}

fn default_config() -> Config {
    #[derive(Deserialize)]
    struct Settings {
        persister: Config,
    }
    common::config::load::<Settings>(&[DEFAULT_CONFIG], None).unwrap().persister
}
