//! A socket from its token to its end.

use std::sync::{Arc, Mutex, PoisonError};

use common::{
    engine::TailLease,
    http::Caller,
    revocation::Holder,
    wire::{Subject, Tenant},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use socketioxide::extract::{Data, Extension, SocketRef, State};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Shared, rooms::room};
use crate::domain::filter::Filter;

/// Namespace of socket.io tokens in the ticket store.
pub(crate) const TOKENS: &str = "socketio";

/// What a token stands for, as it is kept in the ticket store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Who asked for the token.
    pub(crate) caller: Caller,
    /// When, milliseconds since the epoch.
    pub(crate) issued_ms: i64,
}

impl Pass {
    /// What decides whether it is void.
    pub(super) fn holder(&self) -> Holder {
        Holder { user_id: self.caller.user_id, issued_ms: self.issued_ms }
    }
}

/// What a socket is: remembered from its token until it disconnects.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) pass: Pass,
    notifications: bool,
    filter: Arc<Mutex<Filter>>,
    /// Told when the socket has disconnected.
    pub(super) gone: Arc<Notify>,
    /// Keeps the topics of the tenant on the tail for as long as the socket is remembered.
    _leases: Arc<Vec<TailLease>>,
}

impl Session {
    pub(super) fn tenant(&self) -> &Tenant {
        &self.pass.caller.tenant
    }

    /// Whether the socket wants this notification.
    pub(super) fn passes(&self, notification: &Value) -> bool {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).passes(notification)
    }

    fn set_filter(&self, filter: Filter) {
        *self.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
    }
}

/// Why a socket was refused; the texts are the contract's.
#[derive(Debug)]
pub(super) struct Refused(&'static str);

impl Refused {
    const MISSING: Self = Self("missing token");
    const UNKNOWN: Self = Self("unknown token");
    /// Something that is needed to tell is away.
    const UNVERIFIED: Self = Self("Failed to verify token");
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authentication error: {}", self.0)
    }
}

/// Spends the token and starts reading the topics of its tenant, before the client hears that it is connected.
pub(super) async fn authenticate(
    socket: SocketRef,
    State(shared): State<Arc<Shared>>,
) -> Result<(), Refused> {
    let query = socket.req_parts().uri.query().unwrap_or_default();
    let token = parameter(query, "token").ok_or(Refused::MISSING)?;
    let pass = shared.spend(token).await?;
    let notifications = parameter(query, "subject") == Some(Subject::NOTIFICATIONS.as_str());
    let leases = shared.listen(&pass.caller.tenant, notifications).await.map_err(|error| {
        warn!(%error, tenant = %pass.caller.tenant, "a socket was refused because the log is away");
        Refused::UNVERIFIED
    })?;
    socket.extensions.insert(Session {
        pass,
        notifications,
        filter: Arc::default(),
        gone: Arc::new(Notify::new()),
        _leases: Arc::new(leases),
    });
    Ok(())
}

fn parameter<'a>(query: &'a str, wanted: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}

impl Shared {
    /// Takes the token out of the store: it is good once.
    async fn spend(&self, token: &str) -> Result<Pass, Refused> {
        self.revocations.heard().await.map_err(|error| {
            warn!(%error, "a socket was refused");
            Refused::UNVERIFIED
        })?;
        let pass = self.engines.tickets.take(TOKENS, token).await.map_err(|error| {
            warn!(%error, "a socket was refused");
            Refused::UNVERIFIED
        })?;
        let pass: Option<Pass> = pass.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        pass.filter(|pass| !self.revocations.covers(pass.holder())).ok_or(Refused::UNKNOWN)
    }
}

/// Puts a socket into its room.
pub(super) async fn connected(socket: SocketRef, State(shared): State<Arc<Shared>>) {
    let Some(session) = socket.extensions.get::<Session>() else {
        let _ = socket.disconnect();
        return;
    };
    debug!(tenant = %session.tenant(), "socket connected");
    metrics::gauge!("socketio_sockets").increment(1.0);
    socket.on_disconnect(async |Extension(session): Extension<Session>| {
        metrics::gauge!("socketio_sockets").decrement(1.0);
        session.gone.notify_one();
    });
    // Whoever ends the sockets of a user finds this one from now on, but may have looked a moment ago.
    if shared.revocations.covers(session.pass.holder()) {
        let _ = socket.disconnect();
        return;
    }
    socket.join(room(session.tenant(), session.notifications));
    socket.on("filter", async |Extension(session): Extension<Session>, Data(text): Data<String>| {
        if let Some(filter) = Filter::parse(&text) {
            session.set_filter(filter);
        }
    });
    shared.close_at_expiry(&socket, &session);
}
