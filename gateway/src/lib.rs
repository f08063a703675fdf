#![doc = include_str!("../README.md")]

mod account;
mod admission;
pub mod config;
mod connections;
mod decide;
mod dispatch;
mod domain;
mod error;
mod forward;
pub mod inspect;
mod limit;
mod live;
mod meter;
mod permit;
mod proxy;
mod report;
mod revocation;
mod session;
mod tunnel;
mod upload;
mod upstream;
mod validity;

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::Context;
use common::{engine::Engines, http::server::HttpServer};
use tokio::{net::TcpListener, sync::Semaphore};

pub use crate::config::Config;
use crate::{
    decide::Decider, dispatch::Dispatcher, domain::client::TrustedProxies, forward::Forwarder,
    limit::Limiter, live::Routes, meter::Meter, proxy::Gateway, report::Reporter, session::Sessions,
    upstream::Upstreams, validity::Validity,
};

/// Name of the service.
pub const SERVICE: &str = "gateway";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    gateway: Arc<Gateway>,
    validity: Arc<Validity>,
    engines: Engines,
    check_every: Duration,
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
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let routes = Routes::load(&config.routes_file).context("gateway.routes_file")?;
        let proxies = TrustedProxies::new(config.trusted_proxies.clone(), config.client_address_header);
        let ours = proxies.clone();
        let http = HttpServer::on(listener, engines.http)?
            .with_threads(threads)
            .with_most_per_address(config.max_connections_per_address, move |address| ours.trusts(address));
        let validity = Arc::new(Validity::new(i64::from(config.decision_cache_ttl_s) * 1000));
        let client = engines.client.clone();
        let dispatcher = Dispatcher {
            upstreams: Upstreams::new(client.urls().clone()),
            forwarder: Forwarder::new(config, threads),
            key: client.key().clone(),
            clock: engines.clock.clone(),
        };
        let gateway = Arc::new(Gateway {
            routes,
            unrouted: Meter::new("none"),
            decider: Arc::new(Decider::new(config, client, engines.clock.clone(), Arc::clone(&validity))),
            dispatcher,
            sessions: Sessions::new(),
            limiter: Limiter::new(&config.rate_limit, engines.clock.clone()),
            proxies,
            reporter: Reporter::default(),
            clock: engines.clock.clone(),
            max_body_bytes: engines.http.max_body_bytes,
            upload_time: Duration::from_millis(engines.http.request_timeout_ms),
            permit_time: Duration::from_millis(config.late_body_ms),
            websockets: Arc::new(Semaphore::new(config.max_websockets)),
            websocket_idle: Duration::from_secs(config.websocket_idle_s),
            shutdown: engines.shutdown.clone(),
        });
        let check_every = Duration::from_millis(config.health_check_interval_ms);
        Ok(Self { http, gateway, validity, engines, check_every })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        let Self { http, gateway, validity, engines, check_every } = self;
        let shutdown = engines.shutdown.clone();
        let stop = shutdown.clone();
        let follow = revocation::follow(engines, validity);
        shutdown.spawn("revocations", async move {
            stop.unless_requested(follow).await;
        });
        let (stop, served) = (shutdown.clone(), Arc::clone(&gateway));
        shutdown.spawn("routes", async move {
            let Dispatcher { upstreams, forwarder, .. } = &served.dispatcher;
            let work = async {
                tokio::join!(
                    served.routes.follow(upstreams),
                    upstreams.watch(&served.routes, &served.clock, check_every, &forwarder.limits),
                )
            };
            stop.unless_requested(work).await;
        });
        // Boxed, or connections without a request would have room for one.
        let answer = move |request, peer| Box::pin(proxy::handle(Arc::clone(&gateway), request, peer));
        http.run_service(answer, shutdown).await;
    }
}
