//! What a socket may cost: its place among the sockets of its tenant, and the bytes that wait for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use common::{
    slots::{Slot, Slots},
    wire::Tenant,
};
use tokio_util::sync::CancellationToken;

/// The accounts of all sockets of this process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Accounts(Arc<Inner>);

struct Inner {
    max_bytes: usize,
    slots: Slots,
    /// Sockets that poll, by the session of Engine.IO. Never held across an await.
    polling: Mutex<HashMap<String, Weak<Account>>>,
}

/// What one socket costs. Its place is given back when nothing of the socket is left in memory.
pub(super) struct Account {
    accounts: Accounts,
    _slot: Slot,
    since: Instant,
    sid: OnceLock<String>,
    waiting: AtomicUsize,
    cut: CancellationToken,
}

impl Accounts {
    /// `max_bytes` may wait for one socket; `per_tenant` sockets of one tenant and `total` in all may be open.
    pub(super) fn new(max_bytes: usize, per_tenant: usize, total: usize) -> Self {
        Self(Arc::new(Inner { max_bytes, slots: Slots::new(per_tenant, total), polling: Mutex::default() }))
    }

    /// An account for a socket of this tenant, if there is a place left.
    pub(super) fn open(&self, tenant: &Tenant) -> Option<Arc<Account>> {
        let slot = self.0.slots.take(tenant)?;
        Some(Arc::new(Account {
            accounts: self.clone(),
            _slot: slot,
            since: Instant::now(),
            sid: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            cut: CancellationToken::new(),
        }))
    }

    /// Remembers whose session this is, for the polls that follow.
    pub(super) fn remember(&self, sid: &str, account: &Arc<Account>) {
        if account.sid.set(sid.to_owned()).is_ok() {
            self.polling().insert(sid.to_owned(), Arc::downgrade(account));
        }
    }

    /// The account of a session that began with polling and is not cut.
    pub(super) fn of_session(&self, sid: &str) -> Option<Arc<Account>> {
        let account = self.polling().get(sid)?.upgrade()?;
        (!account.cut.is_cancelled()).then_some(account)
    }

    fn polling(&self) -> MutexGuard<'_, HashMap<String, Weak<Account>>> {
        self.0.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// So many bytes more wait for the socket. Tells whether that is still within the limit.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // A record larger than the limit is no fault of the reader.
        waiting == 0 || waiting.saturating_add(bytes) <= self.accounts.0.max_bytes
    }

    /// So many bytes left for the socket. What the protocols add is among them, so this may be more than was charged.
    pub(super) fn written(&self, bytes: usize) {
        let less = |waiting: usize| Some(waiting.saturating_sub(bytes));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// When the session of the socket began.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Cuts the connection, whatever waits for it.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Completes when the connection has to be cut.
    pub(super) fn is_cut(&self) -> CancellationToken {
        self.cut.clone()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(sid) = self.sid.get() {
            self.accounts.polling().remove(sid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let accounts = Accounts::new(10, 2, 3);
        let first = accounts.open(&tenant("a")).unwrap();
        accounts.remember("sid", &first);
        let _second = accounts.open(&tenant("a")).unwrap();
        assert!(accounts.open(&tenant("a")).is_none(), "two for one tenant");
        let _third = accounts.open(&tenant("b")).unwrap();
        assert!(accounts.open(&tenant("c")).is_none(), "three in all");
        drop(first);
        assert!(accounts.of_session("sid").is_none() && accounts.polling().is_empty());
        assert!(accounts.open(&tenant("c")).is_some());
    }

    #[test]
    fn what_waits_is_limited_and_what_is_written_waits_no_more() {
        let account = Accounts::new(10, 1, 1).open(&tenant("a")).unwrap();
        assert!(account.charge(11), "a single record may be larger than the limit");
        assert!(!account.charge(1));
        account.written(8);
        assert!(account.charge(6));
        account.written(1_000);
        assert!(account.charge(10));
        assert!(!account.charge(1));
    }
}
