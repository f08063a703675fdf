//! Live readings for sockets: one tail per process, a room per tenant.

mod account;
mod delivery;
mod door;
mod ending;
mod handshake;
mod refusal;
mod rooms;
mod session;
mod wire;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use common::{
    engine::{Engines, SharedTail, TailLease, event_log::LogError},
    revocation::Revocations,
    wire::{Subject, Tenant},
};
use socketioxide::{SocketIo, handler::ConnectHandler};
use tower::Layer;

use self::{account::Accounts, ending::Farewells};
pub(crate) use self::{
    door::{Door, enter},
    session::{Pass, TOKENS},
};
use crate::{
    config::Config,
    topics::{OwnTopics, TopicError},
};

/// Engine.IO timings of the original (dojot-api.md 4.3).
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Engine.IO 4: how long a client may take from its session to its socket.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client sends is a filter at most.
const MAX_INBOUND_BYTES: usize = 64 * 1024;

/// The live side of the service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    io: SocketIo,
    shared: Arc<Shared>,
}

/// What handlers of sockets need.
struct Shared {
    tail: SharedTail,
    topics: OwnTopics,
    revocations: Revocations,
    accounts: Accounts,
    farewells: Farewells,
    /// Rooms with a socket whose queue was full.
    suspects: Mutex<HashSet<String>>,
    engines: Engines,
}

impl Live {
    /// The live side and what serves `/socket.io`.
    pub(crate) fn new(
        config: &Config,
        topics: OwnTopics,
        engines: &Engines,
    ) -> Result<(Self, Door), LogError> {
        let shared = Arc::new(Shared {
            tail: SharedTail::new(&engines.log, &engines.shutdown)?,
            topics,
            revocations: Revocations::new(engines.clock.clone(), config.token_lifetime_s),
            accounts: Accounts::new(config.socket_bytes, config.max_sockets_per_tenant, config.max_sockets),
            farewells: Farewells::default(),
            suspects: Mutex::default(),
            engines: engines.clone(),
        });
        let (layer, io) = SocketIo::builder()
            .ping_interval(PING_INTERVAL)
            .ping_timeout(PING_TIMEOUT)
            .max_buffer_size(config.socket_queue)
            .max_payload(MAX_INBOUND_BYTES as u64)
            .ws_max_message_size(MAX_INBOUND_BYTES)
            .ws_max_frame_size(MAX_INBOUND_BYTES)
            .connect_timeout(CONNECT_TIMEOUT)
            .with_state(Arc::clone(&shared))
            .build_layer();
        io.ns("/", session::connected.with(session::authenticate));
        let door = Door { shared: Arc::clone(&shared), sockets: layer.layer(Router::new()) };
        Ok((Self { io, shared }, door))
    }

    /// Emits what is appended, and ends the sockets of users whose tokens are revoked, until the end is asked for.
    pub(crate) async fn run(self) {
        tokio::join!(self.emit_all(), self.end_revoked());
    }

    /// Closes all sockets.
    pub(crate) fn close(&self) {
        self.end_where(|_| true);
    }
}

impl Shared {
    /// Reads the topics that a socket shows. When it returns, every record that is appended later will be seen.
    async fn listen(&self, tenant: &Tenant, notifications: bool) -> Result<Vec<TailLease>, TopicError> {
        let subjects: &[Subject] =
            if notifications { &[Subject::NOTIFICATIONS] } else { &[Subject::DEVICE_DATA, Subject::DEVICE] };
        let mut leases = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let topic = self.topics.create(tenant, subject).await?;
            leases.push(self.tail.listen(&topic).await?);
        }
        Ok(leases)
    }
}
