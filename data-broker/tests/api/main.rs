//! The API of data-broker and its socket.io, through real HTTP, on embedded and on real engines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod limits;
mod live;
mod topics;

use std::{collections::HashMap, sync::Arc};

use axum::Router;
use common::{
    engine::event_log::{NewRecord, generation_header},
    http::client::Service as Name,
    testing::{Neighbours, TestEngines, fresh_tenant},
    wire::{Subject, Tenant, Topic},
};
use data_broker::{Config, Server};

/// A running service.
struct Service {
    engines: Arc<TestEngines>,
    base: String,
    neighbours: Neighbours,
}

/// The default settings with a port that is free.
fn config() -> Config {
    let defaults =
        common::config::load::<HashMap<String, Config>>(&[data_broker::DEFAULT_CONFIG], None).unwrap();
    Config { listen: "127.0.0.1:0".to_owned(), ..defaults["data_broker"].clone() }
}

impl Service {
    async fn start(engines: TestEngines) -> Self {
        let neighbours = Neighbours::start(&engines.engines, &[Name::Auth], Router::new()).await;
        Self::start_with(config(), Arc::new(engines), neighbours).await
    }

    async fn start_with(config: Config, engines: Arc<TestEngines>, neighbours: Neighbours) -> Self {
        let server = Server::bind(config, engines.engines.clone()).await.unwrap();
        let base = format!("http://{}", server.local_addr().unwrap());
        engines.engines.client.urls().set(Name::DataBroker, &base);
        engines.engines.shutdown.spawn("data-broker", server.run());
        Self { engines, base, neighbours }
    }

    /// A tenant that exists and that no other test uses.
    fn tenant(&self) -> Tenant {
        let tenant = fresh_tenant();
        self.neighbours.add_tenant(&tenant);
        tenant
    }

    /// One more instance of the service on the same engines.
    async fn another(&self) -> Self {
        Self::start_with(config(), Arc::clone(&self.engines), self.neighbours.clone()).await
    }

    async fn append(&self, tenant: &Tenant, subject: &Subject, value: &str) {
        self.append_for(0, tenant, subject, value).await;
    }

    /// Appends a record that says which of the tenants of its name it was made for.
    async fn append_for(&self, generation: i64, tenant: &Tenant, subject: &Subject, value: &str) {
        let record = NewRecord {
            topic: Topic::new(tenant, subject),
            key: None,
            value: value.to_owned().into(),
            headers: generation_header(generation).into_iter().collect(),
        };
        self.engines.engines.log.append(record).await.unwrap();
    }
}
