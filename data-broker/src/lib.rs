#![doc = include_str!("../README.md")]

pub mod config;
mod domain;
mod handlers;
mod live;
mod quota;
mod router;
mod tenants;
mod topics;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::FromRef};
use common::{
    clock::Clock,
    engine::{Engines, TicketStore},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
};

pub use crate::config::Config;
use crate::{live::Live, quota::Quota, tenants::Tenants, topics::OwnTopics};

/// Name of the service.
pub const SERVICE: &str = "data-broker";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

#[derive(Clone, FromRef)]
struct AppState {
    config: Arc<Config>,
    topics: OwnTopics,
    quota: Quota,
    tickets: TicketStore,
    clock: Clock,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    live: Live,
    tenants: Tenants,
    engines: Engines,
}

impl Server {
    /// Binds the listener and prepares socket.io.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let config = Arc::new(config);
        let tenants = Tenants::new(engines.client.clone());
        let topics = OwnTopics::new(Arc::clone(&config), engines.log.clone(), tenants.clone());
        let (live, door) = Live::new(&config, topics.clone(), &engines)?;
        let quota = Quota::new(Arc::clone(&config), engines.log.clone());
        let (tickets, clock) = (engines.tickets.clone(), engines.clock.clone());
        let state = AppState { config, topics, quota, tickets, clock };
        let layers = Layers {
            service: SERVICE,
            shape: Shape::Message,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        // socket.io answers in its own way, so it stands beside the layers of the API.
        let router = layers.wrap(router::router(state)).merge(router::socketio(door));
        Ok(Self { http, router, live, tenants, engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        let shutdown = self.engines.shutdown.clone();
        let (stop, live) = (shutdown.clone(), self.live.clone());
        let follow = self.tenants.follow(self.engines, move |tenant| live.end_tenant(tenant));
        shutdown.spawn("tenants", async move {
            stop.unless_requested(follow).await;
        });
        let live = self.live.clone();
        let stop = shutdown.clone();
        shutdown.spawn("live", async move {
            stop.unless_requested(live.run()).await;
        });
        self.http.run(self.router, shutdown.clone()).await;
        self.live.close();
    }
}
