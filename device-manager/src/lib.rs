#![doc = include_str!("../README.md")]

pub mod config;
mod domain;
mod error;
mod events;
mod handlers;
mod router;
mod storage;
mod tenants;
mod turns;
mod view;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::FromRef};
use common::{
    engine::{Engines, outbox::Outbox},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
    shutdown::Shutdown,
    tenancy::Topics,
};

pub use crate::config::Config;
use crate::{config::Limits, storage::Store, turns::Turns};

/// Name of the service.
pub const SERVICE: &str = "device-manager";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

#[derive(Clone, FromRef)]
struct AppState {
    store: Store,
    limits: Limits,
    turns: Turns,
    shutdown: Shutdown,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    store: Store,
    topics: Topics,
    engines: Engines,
}

impl Server {
    /// Binds the listener and opens the database.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let flag = engines.readiness.register("device-manager database");
        let sql = engines.sql.open(SERVICE, sqlx::migrate!("./migrations"), flag, &engines.shutdown)?;
        // Half of the connections are never used by lists: agents ask for passwords, and wait for nobody.
        let lists = (sql.max_connections() / 2).max(1);
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let outbox = Outbox::start(
            sql.clone(),
            engines.log.clone(),
            topics.clone(),
            engines.clock.clone(),
            &engines.shutdown,
        );
        let store = Store::new(sql, outbox, engines.clock.clone());
        let layers = Layers {
            service: SERVICE,
            shape: Shape::MessageStatus,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        let state = AppState {
            store: store.clone(),
            limits: config.limits(),
            turns: Turns::new(config.lists_per_tenant, lists, Duration::from_millis(config.list_wait_ms)),
            shutdown: engines.shutdown.clone(),
        };
        let router = layers.wrap(router::router(state));
        Ok(Self { http, router, store, topics, engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        tenants::start(&self.engines, self.topics, self.store);
        self.http.run(self.router, self.engines.shutdown).await;
    }
}
