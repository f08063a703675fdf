//! Users whose tokens died: their sockets end, and so do the tickets that they still hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{TailLease, event_log::Record},
    tenancy::Topics,
    wire::{Subject, Tenant, event::Revocation},
};
use tracing::{info, warn};

use crate::{
    domain::{close::Close, ticket::Pass},
    fanout::Fanout,
};

/// What was revoked lately. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations {
    clock: Clock,
    keep_ms: i64,
    users: Arc<Mutex<HashMap<i64, i64>>>,
}

impl Revocations {
    /// Remembers revocations for as long as tickets live.
    pub(crate) fn new(clock: Clock, ticket_lifetime_s: u64) -> Self {
        Self { clock, keep_ms: ticket_lifetime_s as i64 * 1000 + 1000, users: Arc::default() }
    }

    /// Takes over a record of the revocation topic.
    pub(crate) fn apply(&self, record: &Record, fanout: &Fanout) {
        let revocation: Revocation = match serde_json::from_slice(&record.value) {
            Ok(revocation) => revocation,
            Err(error) => {
                warn!(topic = %record.topic, offset = record.offset, %error, "not a revocation");
                return;
            }
        };
        // Changes of permissions and groups decide about new tickets, at the gateway.
        let Some(user_id) = revocation.user_id else { return };
        self.revoke(user_id);
        fanout.end_user(user_id, Close::Lifetime);
    }

    fn revoke(&self, user_id: i64) {
        let now = self.clock.now_ms();
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, at| *at + self.keep_ms > now);
        users.insert(user_id, now);
    }

    /// Whether the holder of a pass has been revoked since it was issued.
    pub(crate) fn covers(&self, pass: &Pass) -> bool {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(&pass.user_id).is_some_and(|at| *at >= pass.issued_ms)
    }

    /// Puts the revocation topic on the tail, trying until it is there.
    pub(crate) async fn listen(topics: &Topics, fanout: &Fanout) -> TailLease {
        let mut backoff = Backoff::default();
        loop {
            let topic = topics.resolve_at_last(&Tenant::management(), &Subject::REVOCATION).await;
            match fanout.tail().listen(&topic).await {
                Ok(lease) => {
                    info!(%topic, "revocations are followed");
                    return lease;
                }
                Err(error) => warn!(%topic, %error, "revocations cannot be followed yet"),
            }
            backoff.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_dies_with_its_user_and_later_ones_live() {
        let clock = Clock::fixed(100_000);
        let revocations = Revocations::new(clock.clone(), 60);
        let pass = |user_id, issued_ms| Pass {
            tenant: Tenant::parse("a").unwrap(),
            expires: 9_999,
            user_id,
            issued_ms,
        };
        assert!(!revocations.covers(&pass(1, 100_000)));
        revocations.revoke(1);
        assert!(revocations.covers(&pass(1, 99_000)));
        assert!(revocations.covers(&pass(1, 100_000)));
        assert!(!revocations.covers(&pass(1, 100_001)));
        assert!(!revocations.covers(&pass(2, 99_000)));
        clock.advance(62_000);
        revocations.revoke(2);
        assert_eq!(revocations.users.lock().unwrap().len(), 1, "old ones are forgotten");
    }
}
