//! What ends sockets: the expiry of the token of their user, its revocation, the removal of their tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use common::{revocation::Revoked, tenancy::Topics, wire::Tenant};
use socketioxide::extract::SocketRef;

use super::{CONNECT_TIMEOUT, Live, Shared, account::Account, session::Session};
use crate::SERVICE;

/// How long a client whose socket was ended may keep its connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// Tenants that were removed a moment ago: a client of theirs may have a session and no socket yet, which nobody finds.
#[derive(Default)]
pub(super) struct Farewells(Mutex<HashMap<Tenant, Instant>>);

impl Farewells {
    /// Longer than a session may be without a socket.
    const MEMORY: Duration = CONNECT_TIMEOUT.saturating_mul(6);

    fn note(&self, tenant: &Tenant) {
        let mut removed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        removed.retain(|_, at| at.elapsed() < Self::MEMORY);
        removed.insert(tenant.clone(), Instant::now());
    }

    /// Whether the tenant was removed after a session had begun; one of the same name may have come since.
    pub(super) fn cover(&self, session: &Session) -> bool {
        let removed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        removed.get(session.tenant()).is_some_and(|at| *at >= session.account.since())
    }
}

impl Live {
    /// Ends the sockets of users whose tokens are revoked, for ever.
    pub(super) async fn end_revoked(&self) {
        let revocations = self.shared.revocations.clone();
        let report = |revoked: Revoked| {
            self.end_where(|session| revoked.covers(session.pass.holder()));
        };
        // The topics of the platform, which this service is asked for like any other.
        let topics = Topics::new(self.shared.engines.client.clone(), SERVICE);
        revocations.follow(self.shared.engines.log.clone(), topics, report).await;
    }

    /// Ends the sockets of a tenant that is removed.
    pub(crate) fn end_tenant(&self, tenant: &Tenant) {
        self.shared.farewells.note(tenant);
        self.end_where(|session| session.tenant() == tenant);
    }

    /// Ends the sockets that a condition holds for.
    pub(super) fn end_where(&self, is_over: impl Fn(&Session) -> bool) {
        for socket in self.io.sockets() {
            if socket.extensions.get::<Session>().is_none_or(|session| is_over(&session)) {
                sever(&socket);
            }
        }
    }
}

/// Ends a socket, also one that takes nothing any more and cannot be told.
pub(super) fn sever(socket: &SocketRef) {
    let session = socket.extensions.get::<Session>();
    socket.leave_all();
    if socket.clone().disconnect().is_err()
        && let Some(session) = session
    {
        session.account.cut();
    }
}

impl Shared {
    /// Ends a socket when the token of its user expires.
    pub(super) fn close_at_expiry(&self, socket: &SocketRef, session: &Session) {
        let expires_s = session.pass.caller.expires_s;
        if expires_s == 0 {
            return;
        }
        let left_s = (expires_s - self.engines.clock.now_s()).max(0).unsigned_abs();
        let socket = socket.clone();
        let gone = Arc::clone(&session.gone);
        let stop = self.engines.shutdown.clone();
        self.engines.shutdown.spawn("socket expiry", async move {
            let leaves = tokio::time::timeout(Duration::from_secs(left_s), gone.notified());
            if let Some(Err(_expired)) = stop.unless_requested(leaves).await {
                sever(&socket);
            }
        });
    }

    /// Cuts the connection of a socket that has ended, when the client had the time to hear of it and to leave.
    pub(super) fn cut_soon(&self, account: Arc<Account>) {
        let stop = self.engines.shutdown.clone();
        self.engines.shutdown.spawn("socket cut", async move {
            let leaves = tokio::time::timeout(FAREWELL, account.is_cut().cancelled_owned());
            let _ = stop.unless_requested(leaves).await;
            account.cut();
        });
    }
}
