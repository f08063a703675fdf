#![doc = include_str!("../README.md")]

pub mod config;
mod decide;
mod domain;
mod error;
mod forward;
mod meter;
mod permit;
mod proxy;
mod revocation;
mod tunnel;
mod upload;
mod upstream;
mod validity;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use common::{engine::Engines, http::server::HttpServer};
use tokio::{net::TcpListener, sync::Semaphore};

pub use crate::config::Config;
use crate::{
    decide::Decider, domain::route::RouteTable, forward::Forwarder, meter::Meter, proxy::Gateway,
    upstream::Upstreams, validity::Validity,
};

/// Name of the service.
pub const SERVICE: &str = "gateway";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");
/// The route table.
const ROUTES: &str = include_str!("../routes.toml");

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    gateway: Arc<Gateway>,
    validity: Arc<Validity>,
    engines: Engines,
}

impl Server {
    /// Reads the routes and binds the listener.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(&config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        Self::on(listener, &config, engines)
    }

    /// Reads the routes, for a socket that listens already.
    pub fn on(listener: TcpListener, config: &Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let routes = RouteTable::parse(ROUTES).context("routes.toml")?;
        let http = HttpServer::on(listener, engines.http)?;
        let validity = Arc::new(Validity::new(i64::from(config.decision_cache_ttl_s) * 1000));
        let client = engines.client.clone();
        let gateway = Arc::new(Gateway {
            meters: routes.routes().iter().map(|route| Meter::new(&route.name)).collect(),
            unrouted: Meter::new("none"),
            routes,
            upstreams: Upstreams::new(client.urls().clone()),
            key: client.key().clone(),
            decider: Arc::new(Decider::new(config, client, engines.clock.clone(), Arc::clone(&validity))),
            forwarder: Forwarder::new(config),
            clock: engines.clock.clone(),
            max_body_bytes: engines.http.max_body_bytes,
            upload_time: Duration::from_millis(engines.http.request_timeout_ms),
            permit_time: Duration::from_millis(config.late_body_ms),
            websockets: Arc::new(Semaphore::new(config.max_websockets)),
            websocket_idle: Duration::from_secs(config.websocket_idle_s),
            shutdown: engines.shutdown.clone(),
        });
        Ok(Self { http, gateway, validity, engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        let Self { http, gateway, validity, engines } = self;
        let shutdown = engines.shutdown.clone();
        let stop = shutdown.clone();
        let follow = revocation::follow(engines, validity);
        shutdown.spawn("revocations", async move {
            stop.unless_requested(follow).await;
        });
        http.run(Router::new().fallback(proxy::handle).with_state(gateway), shutdown).await;
    }
}
