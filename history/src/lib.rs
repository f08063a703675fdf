#![doc = include_str!("../README.md")]

pub mod config;
mod devices;
mod domain;
mod error;
mod handlers;
mod reader;
mod router;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::FromRef};
use common::{
    engine::{Engines, HistoryStore},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
};

pub use crate::config::Config;
use crate::devices::Devices;

/// Name of the service.
pub const SERVICE: &str = "history";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

#[derive(Clone, FromRef)]
struct AppState {
    config: Arc<Config>,
    store: HistoryStore,
    devices: Devices,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    engines: Engines,
}

impl Server {
    /// Binds the listener.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let devices = Devices::new(engines.client.clone());
        let state = AppState { config: Arc::new(config), store: engines.history.clone(), devices };
        let layers = Layers {
            service: SERVICE,
            shape: Shape::TitleDescription,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        Ok(Self { http, router: layers.wrap(router::router(state)), engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        self.http.run(self.router, self.engines.shutdown).await;
    }
}
