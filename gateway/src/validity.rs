//! Until when remembered decisions hold: revocations make them void, and without the log there are none.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// When something was decided, in the order of revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

/// Compares decisions with revocations.
///
/// A decision carries the stamp that was taken *before* the PDP was asked for it. A revocation that arrives later,
/// even while the PDP is answering, has a higher number, and the decision does not hold any more.
#[derive(Debug)]
pub(crate) struct Validity {
    /// Revocations are heard until here, milliseconds since the epoch.
    trusted_until_ms: AtomicI64,
    revocations: AtomicU64,
    everybody: AtomicU64,
    users: RwLock<HashMap<i64, Revoked>>,
    /// When a revocation was heard last, milliseconds since the epoch.
    heard_ms: AtomicI64,
    keep_ms: i64,
}

#[derive(Debug)]
struct Revoked {
    number: u64,
    at_ms: i64,
}

impl Validity {
    /// More than this many revoked users at a time count as everybody.
    const MAX_USERS: usize = 10_000;
    /// Longer than any call to the PDP.
    const LONGEST_QUESTION_MS: i64 = 60_000;
    /// Longer than auth remembers anything without hearing of revocations (`auth.access_cache_s`).
    const FRESH_MS: i64 = 15_000;

    /// Nothing is trusted yet. Decisions are remembered for `ttl_ms` at most.
    pub(crate) fn new(ttl_ms: i64) -> Self {
        Self {
            trusted_until_ms: AtomicI64::new(0),
            revocations: AtomicU64::new(1),
            everybody: AtomicU64::new(1),
            users: RwLock::default(),
            heard_ms: AtomicI64::new(i64::MIN),
            keep_ms: ttl_ms + Self::LONGEST_QUESTION_MS,
        }
    }

    /// The stamp of a decision that is asked for now; `None` while revocations may be missed.
    pub(crate) fn stamp(&self, now_ms: i64) -> Option<Stamp> {
        self.is_trusted(now_ms).then(|| Stamp(self.revocations.load(Ordering::SeqCst)))
    }

    /// Whether revocations are heard.
    pub(crate) fn is_trusted(&self, now_ms: i64) -> bool {
        now_ms < self.trusted_until_ms.load(Ordering::SeqCst)
    }

    /// Whether a decision about a user still holds.
    pub(crate) fn holds(&self, stamp: Stamp, user_id: i64) -> bool {
        if stamp.0 < self.everybody.load(Ordering::SeqCst) {
            return false;
        }
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(&user_id).is_none_or(|revoked| revoked.number <= stamp.0)
    }

    /// Remembers that a revocation was heard.
    pub(crate) fn note(&self, now_ms: i64) {
        self.heard_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Whether the PDP should answer from its database: the instance that is asked may hear of a revocation later than this
    /// process did.
    pub(crate) fn wants_fresh(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.heard_ms.load(Ordering::SeqCst)) < Self::FRESH_MS
    }

    /// Makes void what was decided about a user.
    pub(crate) fn revoke(&self, user_id: i64, now_ms: i64) {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        // What was decided before these has been forgotten anyway.
        users.retain(|_, revoked| revoked.at_ms + self.keep_ms > now_ms);
        if users.len() >= Self::MAX_USERS {
            self.revoke_all();
            users.clear();
        }
        let number = self.revocations.fetch_add(1, Ordering::SeqCst) + 1;
        users.insert(user_id, Revoked { number, at_ms: now_ms });
    }

    /// Makes void everything that was decided.
    pub(crate) fn revoke_all(&self) {
        let number = self.revocations.fetch_add(1, Ordering::SeqCst) + 1;
        self.everybody.fetch_max(number, Ordering::SeqCst);
    }

    /// Revocations are heard until then. What was decided before a gap is void.
    pub(crate) fn trust(&self, now_ms: i64, until_ms: i64) {
        if !self.is_trusted(now_ms) {
            self.revoke_all();
        }
        self.trusted_until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Revocations are not heard any more.
    pub(crate) fn distrust(&self) {
        self.trusted_until_ms.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> Validity {
        let validity = Validity::new(60_000);
        validity.trust(1_000, 6_000);
        validity
    }

    #[test]
    fn nothing_is_remembered_before_the_log_is_heard_and_after_it_is_lost() {
        let validity = Validity::new(60_000);
        assert_eq!(validity.stamp(1_000), None);
        validity.trust(1_000, 6_000);
        assert!(validity.stamp(5_999).is_some());
        assert_eq!(validity.stamp(6_000), None);
        validity.trust(7_000, 12_000);
        assert!(validity.stamp(7_000).is_some());
        validity.distrust();
        assert_eq!(validity.stamp(7_000), None);
    }

    #[test]
    fn a_revocation_makes_earlier_decisions_void() {
        let validity = trusted();
        let before = validity.stamp(1_000).unwrap();
        assert!(validity.holds(before, 1));
        validity.revoke(1, 1_000);
        assert!(!validity.holds(before, 1));
        assert!(validity.holds(before, 2), "others are not concerned");
        let after = validity.stamp(1_000).unwrap();
        assert!(validity.holds(after, 1));
        validity.revoke_all();
        assert!(!validity.holds(after, 1));
        assert!(!validity.holds(after, 2));
        assert!(validity.holds(validity.stamp(1_000).unwrap(), 2));
    }

    #[test]
    fn a_gap_makes_everything_void() {
        let validity = trusted();
        let before = validity.stamp(1_000).unwrap();
        validity.trust(5_000, 10_000);
        assert!(validity.holds(before, 1), "there was no gap");
        validity.trust(10_001, 15_000);
        assert!(!validity.holds(before, 1));
    }

    #[test]
    fn revoked_users_are_forgotten_when_no_decision_about_them_is_left() {
        let validity = trusted();
        validity.revoke(1, 1_000);
        validity.revoke(2, 1_000 + validity.keep_ms);
        assert_eq!(validity.users.read().unwrap().len(), 1);
    }

    #[test]
    fn too_many_revoked_users_are_everybody() {
        let validity = trusted();
        let before = validity.stamp(1_000).unwrap();
        for user in 0..=Validity::MAX_USERS as i64 {
            validity.revoke(user, 1_000);
        }
        assert!(validity.users.read().unwrap().len() <= Validity::MAX_USERS);
        assert!(!validity.holds(before, -1));
    }

    #[test]
    fn answers_are_fresh_for_a_while_after_a_revocation() {
        let validity = trusted();
        assert!(!validity.wants_fresh(2_000));
        validity.note(2_000);
        assert!(validity.wants_fresh(2_000) && validity.wants_fresh(16_999));
        assert!(!validity.wants_fresh(17_000));
    }
}
