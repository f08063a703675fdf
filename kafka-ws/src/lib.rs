#![doc = include_str!("../README.md")]

pub mod config;
mod domain;
mod fanout;
mod handlers;
mod router;
mod session;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::FromRef};
use common::{
    clock::Clock,
    engine::{Engines, TicketStore},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
    revocation::Revocations,
    slots::Slots,
    tenancy::{self, TenantChange, Topics, Turn},
};

pub use crate::config::Config;
use crate::{
    domain::close::Close,
    fanout::{Fanout, QueueLimits},
    handlers::subscription::Subscriptions,
};

/// Name of the service.
pub const SERVICE: &str = "kafka-ws";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

/// Namespace of our tickets in the ticket store.
const TICKETS: &str = "kafka-ws";

#[derive(Clone, FromRef)]
struct AppState {
    config: Arc<Config>,
    tickets: TicketStore,
    clock: Clock,
    subscriptions: Subscriptions,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    subscriptions: Subscriptions,
    engines: Engines,
}

impl Server {
    /// Binds the listener and prepares the fan-out.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let config = Arc::new(config);
        let queues = QueueLimits { frames: config.queue_frames, bytes: config.queue_bytes };
        let subscriptions = Subscriptions {
            tickets: engines.tickets.clone(),
            topics: Topics::new(engines.client.clone(), SERVICE),
            fanout: Fanout::new(&engines, queues)?,
            slots: Slots::new(config.max_sockets_per_tenant, config.max_sockets).shown_as("kafka_ws_sockets"),
            revocations: Revocations::new(engines.clock.clone(), config.ticket_lifetime_s),
            clock: engines.clock.clone(),
            shutdown: engines.shutdown.clone(),
            config: Arc::clone(&config),
        };
        let state = AppState {
            config,
            tickets: engines.tickets.clone(),
            clock: engines.clock.clone(),
            subscriptions: subscriptions.clone(),
        };
        let layers = Layers {
            service: SERVICE,
            shape: Shape::Message,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        let router = layers.wrap(router::router(state));
        Ok(Self { http, router, subscriptions, engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for. The sockets are tasks of the process, which waits for them.
    pub async fn run(self) {
        let Self { http, router, subscriptions, engines } = self;
        let Subscriptions { fanout, topics, revocations, .. } = subscriptions;
        let stop = engines.shutdown.clone();
        let deliveries = fanout.clone().run();
        engines.shutdown.spawn("fan-out", async move {
            stop.unless_requested(deliveries).await;
        });
        let endings = follow_endings(engines.clone(), topics, revocations, fanout);
        engines.shutdown.spawn("tenants and users", endings);
        http.run(router, engines.shutdown.clone()).await;
    }
}

/// Closes the sockets of tenants that go, and of users whose tokens are revoked.
async fn follow_endings(engines: Engines, topics: Topics, revocations: Revocations, fanout: Fanout) {
    let mut changes = tenancy::follow(&engines, topics.clone(), SERVICE, Turn::AtOnce);
    let tenants = async {
        while let Some(change) = changes.recv().await {
            if let TenantChange::Removed(tenant) = change {
                fanout.end_tenant(&tenant, Close::Forbidden);
            }
        }
    };
    let users = revocations
        .follow(engines.log.clone(), topics, |revoked| fanout.end_revoked(revoked, Close::Lifetime));
    engines.shutdown.unless_requested(async { tokio::join!(tenants, users) }).await;
}
