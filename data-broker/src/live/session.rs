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

use super::{
    Shared, account::Account, door, ending::sever, handshake::parameter, refusal::Refused, rooms::rooms,
};
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
    /// What it costs; its place is free when the last copy of this is gone.
    pub(super) account: Arc<Account>,
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

/// Takes over what the door found out, before the client hears that it is connected.
pub(super) async fn authenticate(socket: SocketRef) -> Result<(), Refused> {
    let session = door::carried(socket.req_parts()).ok_or(Refused::MissingToken)?;
    socket.extensions.insert(session);
    Ok(())
}

impl Shared {
    /// Takes the token out of the store: it is good once.
    pub(super) async fn spend(&self, token: &str) -> Result<Pass, Refused> {
        self.revocations.heard().await.map_err(|error| {
            warn!(%error, "a socket was refused");
            Refused::Unverified
        })?;
        let pass = self.engines.tickets.take(TOKENS, token).await.map_err(|error| {
            warn!(%error, "a socket was refused");
            Refused::Unverified
        })?;
        let pass: Option<Pass> = pass.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        pass.filter(|pass| !self.is_void(pass)).ok_or(Refused::UnknownToken)
    }

    /// Whether the user's own token, by which this one was had, has expired or is revoked.
    fn is_void(&self, pass: &Pass) -> bool {
        pass.caller.has_expired(self.engines.clock.now_s()) || self.revocations.covers(pass.holder())
    }

    /// What a socket is. When it returns, every record that is appended later will be seen.
    pub(super) async fn session(
        &self,
        pass: Pass,
        account: Arc<Account>,
        query: &str,
    ) -> Result<Session, Refused> {
        let notifications = parameter(query, "subject") == Some(Subject::NOTIFICATIONS.as_str());
        let leases = self.listen(&pass.caller.tenant, notifications).await.map_err(|error| {
            warn!(%error, tenant = %pass.caller.tenant, "a socket was refused because the log is away");
            Refused::Unverified
        })?;
        Ok(Session {
            pass,
            account,
            notifications,
            filter: Arc::default(),
            gone: Arc::new(Notify::new()),
            _leases: Arc::new(leases),
        })
    }
}

/// Puts a socket into its room.
pub(super) async fn connected(socket: SocketRef, State(shared): State<Arc<Shared>>) {
    let Some(session) = socket.extensions.get::<Session>() else { return sever(&socket) };
    debug!(tenant = %session.tenant(), "socket connected");
    metrics::gauge!("socketio_sockets").increment(1.0);
    socket.on_disconnect(
        async |Extension(session): Extension<Session>, State(shared): State<Arc<Shared>>| {
            metrics::gauge!("socketio_sockets").decrement(1.0);
            session.gone.notify_one();
            shared.cut_soon(session.account);
        },
    );
    // Whoever ends the sockets of a user or a tenant finds this one from now on, but may have looked a moment ago. And a
    // client may have taken its time since the door.
    if shared.is_void(&session.pass) || shared.farewells.cover(&session) {
        return sever(&socket);
    }
    socket.join(rooms(session.tenant(), session.pass.caller.generation, session.notifications));
    socket.on("filter", async |Extension(session): Extension<Session>, Data(text): Data<String>| {
        if let Some(filter) = Filter::parse(&text) {
            session.set_filter(filter);
        }
    });
    shared.close_at_expiry(&socket, &session);
}
