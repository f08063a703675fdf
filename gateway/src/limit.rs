//! Counts failures per account and client address, and refuses who has failed too often.
//!
//! Whatever is under way counts as if it would fail, so nobody gets more failures by trying many things at once; who
//! succeeds makes room again, and who comes too early for that waits for it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderName, StatusCode},
    response::Response,
};
use common::{clock::Clock, http::problem::FAILURE_HEADER, slots::network};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use crate::{
    config::RateLimits,
    domain::{
        budget::{Budget, Limits, Quota, Room},
        route::{RateLimit, Route},
    },
    error::Refusal,
};

/// Failures of everybody. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {
    account: Limits,
    address: Limits,
    clock: Clock,
    budgets: Mutex<HashMap<Key, Budget>>,
    /// Something has ended, so there may be room.
    ended: Notify,
    /// Those who wait for room keep their requests, so there is a limit to them.
    waiting: Semaphore,
    /// Names are not kept, and nobody can choose what they share.
    hasher: RandomState,
}

/// Whose budget it is: of an account at an address, or of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Account(u64),
    Address(u64),
}

/// Something that was let through and has not ended.
pub(crate) struct Attempt {
    limiter: Limiter,
    keys: [Key; 2],
    failures: Vec<u16>,
    /// The service has said so, whatever the status is.
    has_failed: bool,
    has_ended: bool,
}

/// Most budgets that are remembered; the oldest are forgotten for new ones.
const MAX_BUDGETS: usize = 100_000;
/// Most requests that wait for room.
const MAX_WAITING: usize = 1_000;
/// How long they wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Limiter {
    pub(crate) fn new(limits: &RateLimits, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            account: Limits { per_minute: limits.account_minute, per_hour: limits.account_hour },
            address: Limits { per_minute: limits.address_minute, per_hour: limits.address_hour },
            clock,
            budgets: Mutex::default(),
            ended: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            hasher: RandomState::new(),
        }))
    }

    /// Lets a request through, or says that there were too many failures.
    pub(crate) async fn admit(
        &self,
        route: &Route,
        limit: &RateLimit,
        account: &str,
        address: IpAddr,
    ) -> Result<Attempt, Refusal> {
        let address = network(address);
        let budget = limit.budget.as_ref().unwrap_or(&route.name);
        let hash = |account| self.0.hasher.hash_one((budget, address, account));
        let keys = [Key::Account(hash(Some(account))), Key::Address(hash(None))];
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut place = None;
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            // Before looking, so that nothing ends unnoticed in between.
            ended.as_mut().enable();
            match self.try_begin(keys) {
                (Room::Free, _) => {
                    let failures = limit.failures.clone();
                    return Ok(Attempt {
                        limiter: self.clone(),
                        keys,
                        failures,
                        has_failed: false,
                        has_ended: false,
                    });
                }
                (Room::None, quota) => return Err(Refusal::RateLimited(quota)),
                (Room::Later, quota) => {
                    if place.is_none() {
                        let taken = self.0.waiting.try_acquire();
                        place = Some(taken.map_err(|_| Refusal::RateLimited(quota))?);
                    }
                    let in_time = tokio::time::timeout_at(deadline, ended).await;
                    in_time.map_err(|_| Refusal::RateLimited(quota))?;
                }
            }
        }
    }

    /// Begins if both budgets have room; says how the tighter one stands.
    fn try_begin(&self, keys: [Key; 2]) -> (Room, Quota) {
        let now_ms = self.0.clock.now_ms();
        let mut budgets = self.budgets();
        let stand = |key: Key| {
            let unused = Budget::default();
            let (budget, limits) = (budgets.get(&key).unwrap_or(&unused), self.limits(key));
            (budget.room(limits, now_ms), budget.quota(limits, now_ms))
        };
        let [account, address] = keys.map(stand);
        let tighter = if address.0 > account.0 { address } else { account };
        if tighter.0 == Room::Free {
            make_room(&mut budgets, now_ms);
            for key in keys {
                budgets.entry(key).or_default().begin();
            }
        }
        tighter
    }

    /// Ends what was begun; says how the account stands then.
    fn end(&self, keys: [Key; 2], has_failed: bool) -> Quota {
        let now_ms = self.0.clock.now_ms();
        let mut budgets = self.budgets();
        let [account, _] = keys.map(|key| {
            let budget = budgets.entry(key).or_default();
            budget.end(has_failed, now_ms);
            let quota = budget.quota(self.limits(key), now_ms);
            if budget.is_clean(now_ms) {
                budgets.remove(&key);
            }
            quota
        });
        drop(budgets);
        self.0.ended.notify_waiters();
        account
    }

    fn limits(&self, key: Key) -> Limits {
        match key {
            Key::Account(_) => self.0.account,
            Key::Address(_) => self.0.address,
        }
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<Key, Budget>> {
        self.0.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is over, and if that is not enough, the oldest tenth.
fn make_room(budgets: &mut HashMap<Key, Budget>, now_ms: i64) {
    if budgets.len() + 2 <= MAX_BUDGETS {
        return;
    }
    budgets.retain(|_, budget| !budget.is_clean(now_ms));
    if budgets.len() + 2 <= MAX_BUDGETS {
        return;
    }
    let mut ends: Vec<i64> = budgets.values().map(Budget::ends_ms).collect();
    let (_, oldest, _) = ends.select_nth_unstable(MAX_BUDGETS / 10);
    let oldest = *oldest;
    budgets.retain(|_, budget| budget.is_busy() || budget.ends_ms() > oldest);
}

impl Attempt {
    /// Listens to what only services say in their answers.
    pub(crate) fn hear(&mut self, headers: &HeaderMap) {
        self.has_failed |= headers.contains_key(FAILURE_HEADER);
    }

    /// Whether the service said that it was a failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Counts the answer and tells the client what is left.
    pub(crate) fn end(mut self, response: &mut Response) {
        let has_failed = self.has_failed || self.failures.contains(&response.status().as_u16());
        if has_failed {
            metrics::counter!("gateway_counted_failures_total").increment(1);
        }
        self.has_ended = true;
        let quota = self.limiter.end(self.keys, has_failed);
        quota.show(response.headers_mut());
    }
}

/// The client has gone away, or the service: it is no failure of the client that it could learn anything from.
impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.limiter.end(self.keys, false);
        }
    }
}

impl Quota {
    /// Status of the refusal.
    pub(crate) const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;

    /// Writes the headers of the contract (dojot-api.md 1.4).
    pub(crate) fn show(&self, headers: &mut HeaderMap) {
        let Limits { per_minute, per_hour } = self.limits;
        let is_hour = per_hour > 0 && (per_minute == 0 || self.hour_left < self.minute_left);
        let (limit, left) = if is_hour { (per_hour, self.hour_left) } else { (per_minute, self.minute_left) };
        if limit == 0 {
            return;
        }
        for (name, value, is_limited) in [
            ("ratelimit-limit", limit, true),
            ("ratelimit-remaining", left, true),
            ("ratelimit-reset", self.reset_s, true),
            ("x-ratelimit-limit-minute", per_minute, per_minute > 0),
            ("x-ratelimit-remaining-minute", self.minute_left, per_minute > 0),
            ("x-ratelimit-limit-hour", per_hour, per_hour > 0),
            ("x-ratelimit-remaining-hour", self.hour_left, per_hour > 0),
        ] {
            if is_limited {
                headers.insert(HeaderName::from_static(name), value.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let mut budgets = HashMap::new();
        for number in 0..MAX_BUDGETS as u64 {
            let mut budget = Budget::default();
            budget.begin();
            budget.end(true, number as i64);
            budgets.insert(Key::Account(number), budget);
        }
        let now_ms = MAX_BUDGETS as i64;
        let mut busy = Budget::default();
        busy.begin();
        budgets.insert(Key::Address(0), busy);
        make_room(&mut budgets, now_ms);
        assert!(budgets.len() <= MAX_BUDGETS - MAX_BUDGETS / 10 + 1, "{}", budgets.len());
        assert!(budgets.contains_key(&Key::Address(0)), "what is under way stays");
        assert!(!budgets.contains_key(&Key::Account(0)));
        assert!(budgets.contains_key(&Key::Account(MAX_BUDGETS as u64 - 1)));
    }
}
