#![doc = include_str!("../README.md")]

mod agent;
mod authenticate;
mod config;
mod control;
mod domain;
mod handshake;
mod link;
mod metrics;
mod packet;
mod redelivery;
mod session;
mod sessions;
mod stream;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use common::{
    backoff::Backoff,
    engine::Engines,
    shutdown::Shutdown,
    slots::{Slot, Slots, network},
    tenancy::{self, Turn},
};
use tokio::net::{TcpListener, TcpStream};
use tracing::{info, warn};

pub use config::Config;

use crate::{
    agent::Agent,
    link::Close,
    tls::{Acceptor, Keeper},
};

/// Settings with their defaults, for the binary.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

const SERVICE: &str = "iot-agent-mqtt";

/// The sockets of the agent; absent where a listener is off.
pub struct Listeners {
    /// For user and password.
    pub plain: Option<TcpListener>,
    /// For client certificates.
    pub tls: Option<TcpListener>,
}

/// The agent, bound and not serving yet.
pub struct Server {
    agent: Arc<Agent>,
    engines: Engines,
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, Keeper, Acceptor)>,
}

impl Server {
    /// Binds the listeners. The one for TLS takes connections at once and shakes hands when x509-identity has
    /// issued its certificate.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        let listeners =
            Listeners { plain: listen(&config.listen).await?, tls: listen(&config.listen_tls).await? };
        Self::on(listeners, config, engines)
    }

    /// Like [`Server::bind`], for sockets that listen already.
    pub fn on(listeners: Listeners, config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let Listeners { plain, tls } = listeners;
        let tls = match tls {
            Some(listener) => {
                let (keeper, acceptor) = Keeper::new(&engines, config.hostnames.clone())?;
                Some((listener, keeper, acceptor))
            }
            None => None,
        };
        Ok(Self { agent: Arc::new(Agent::new(config, &engines)?), engines, plain, tls })
    }

    /// Address of the plain listener, unless it is off.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref()?.local_addr().ok()
    }

    /// Address of the TLS listener, unless it is off.
    pub fn local_addr_tls(&self) -> Option<SocketAddr> {
        self.tls.as_ref()?.0.local_addr().ok()
    }

    /// Serves until the end is asked for; then open publishes are acknowledged and sessions end.
    pub async fn run(self) {
        let Self { agent, engines, plain, tls } = self;
        let shutdown = engines.shutdown.clone();
        let changes = tenancy::follow(&engines, agent.topics.clone(), SERVICE, Turn::AtOnce);
        let (follower, reader) = (Arc::clone(&agent), Arc::clone(&agent));
        until_shutdown(&shutdown, "mqtt tenancy", async move {
            follower.control.follow_tenancy(changes, &follower.shutdown).await;
        });
        until_shutdown(&shutdown, "mqtt control", async move { reader.control.run().await });
        let reader = Arc::clone(&agent);
        until_shutdown(&shutdown, "mqtt redelivery", async move { reader.redelivery.run().await });
        until_shutdown(&shutdown, "mqtt sweep", sweep(Arc::clone(&agent)));
        let slots = Slots::new(agent.config.max_connections_per_address, agent.config.max_connections);
        if let Some((listener, keeper, acceptor)) = tls {
            until_shutdown(&shutdown, "mqtt certificates", keeper.run());
            let accepting = accept(Arc::clone(&agent), listener, Some(acceptor), slots.clone());
            until_shutdown(&shutdown, "mqtt tls listener", accepting);
        }
        if let Some(listener) = plain {
            until_shutdown(&shutdown, "mqtt listener", accept(Arc::clone(&agent), listener, None, slots));
        }
        shutdown.requested().await;
        agent.sessions.close_all(Close::ShuttingDown);
    }
}

async fn listen(address: &str) -> anyhow::Result<Option<TcpListener>> {
    if address.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    Ok(Some(listener))
}

fn until_shutdown(shutdown: &Shutdown, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let stop = shutdown.clone();
    shutdown.spawn(name, async move {
        stop.unless_requested(work).await;
    });
}

async fn sweep(agent: Arc<Agent>) {
    let mut every = tokio::time::interval(Duration::from_secs(30));
    loop {
        every.tick().await;
        agent.sweep();
    }
}

async fn accept(agent: Arc<Agent>, listener: TcpListener, acceptor: Option<Acceptor>, slots: Slots<IpAddr>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, tls = acceptor.is_some(), "listening for devices");
    }
    let mut backoff = Backoff::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                backoff.reset();
                match slots.take(&network(peer.ip())) {
                    Some(slot) => begin(&agent, stream, acceptor.clone(), slot),
                    None => metrics::refused("too_many_connections"),
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting is better than spinning.
                warn!(%error, "cannot accept a connection");
                backoff.wait().await;
            }
        }
    }
}

fn begin(agent: &Arc<Agent>, stream: TcpStream, acceptor: Option<Acceptor>, slot: Slot<IpAddr>) {
    let _ = stream.set_nodelay(true);
    let agent = Arc::clone(agent);
    let shutdown = agent.shutdown.clone();
    shutdown.spawn("mqtt connection", async move {
        // Boxed: a connection's task is as small as a session, whatever its beginning needed.
        let opening = Box::pin(handshake::open(agent, stream, acceptor, slot));
        if let Some(session) = opening.await {
            session.run().await;
        }
    });
}
