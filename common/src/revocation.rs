//! Users whose tokens died: what they got for a token dies with it, sockets as well as secrets that open sockets.
//!
//! Secrets outlive the process that issued them, in Redis. A process that starts reads first what was revoked during the
//! lifetime of a secret, so that nobody gets in with one that died while no process was there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    clock::Clock,
    engine::event_log::{EventLog, Record},
    http::Problem,
    tenancy::Topics,
    wire::{Subject, Tenant, event::Revocation},
};

/// To whom something was given for a token, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Identifier of the user; 0 for services.
    pub user_id: i64,
    /// Milliseconds since the epoch.
    pub issued_ms: i64,
}

/// The end of everything that a user was given up to some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Identifier of the user.
    pub user_id: i64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
}

impl Revoked {
    /// Whether it ends what this holder was given.
    pub fn covers(&self, holder: Holder) -> bool {
        self.user_id == holder.user_id && holder.issued_ms <= self.at_ms
    }
}

/// What was revoked before is not known yet: nobody can be let in.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("revocations are not heard yet")]
pub struct NotHeard;

impl From<NotHeard> for Problem {
    fn from(_: NotHeard) -> Self {
        Self::unavailable("revocations")
    }
}

/// What was revoked lately. Cheap to clone.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    clock: Clock,
    keep_ms: i64,
    /// Users, and until when what they were given is void. Never locked across an await.
    users: Mutex<HashMap<i64, i64>>,
    caught_up: watch::Sender<bool>,
}

impl Revocations {
    /// How long a secret waits for the follower to catch up.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// How far the clocks of log and process may be apart.
    const CLOCKS_APART_MS: i64 = 30_000;

    /// Remembers revocations for as long as secrets live.
    pub fn new(clock: Clock, secret_lifetime_s: u64) -> Self {
        let lifetime_ms = i64::try_from(secret_lifetime_s).unwrap_or(i64::MAX).saturating_mul(1000);
        Self(Arc::new(Inner {
            clock,
            keep_ms: lifetime_ms.saturating_add(Self::CLOCKS_APART_MS),
            users: Mutex::default(),
            caught_up: watch::Sender::new(false),
        }))
    }

    /// Waits until everything is known that was revoked before, for a few seconds at most. To be called before a secret is
    /// taken out of its store.
    pub async fn heard(&self) -> Result<(), NotHeard> {
        let mut caught_up = self.0.caught_up.subscribe();
        match tokio::time::timeout(Self::PATIENCE, caught_up.wait_for(|caught_up| *caught_up)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotHeard),
        }
    }

    /// Whether what this holder was given is void.
    ///
    /// To be asked when a secret is shown, and once more when its socket can be found by who is told of revocations: what
    /// was revoked in between would be missed by both.
    pub fn covers(&self, holder: Holder) -> bool {
        let users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ms = users.get(&holder.user_id).copied();
        at_ms.is_some_and(|at_ms| Revoked { user_id: holder.user_id, at_ms }.covers(holder))
    }

    /// Listens to the announcements of auth for ever, and reports each; some of them twice.
    pub async fn follow(self, log: EventLog, topics: Topics, report: impl Fn(Revoked) + Send) {
        /// Services start together and find each other after a moment.
        const PATIENCE: u32 = 6;
        let mut from_ms = self.0.clock.now_ms().saturating_sub(self.0.keep_ms);
        let mut backoff = Backoff::default();
        let mut failures = 0;
        loop {
            let Err(error) = self.listen(&log, &topics, &mut from_ms, &mut backoff, &report).await;
            self.0.caught_up.send_replace(false);
            topics.forget(&Tenant::management(), &Subject::REVOCATION);
            failures += 1;
            let error = format!("{error:#}");
            if failures > PATIENCE {
                warn!(error, "revocations cannot be followed for the moment");
            } else {
                debug!(error, "revocations cannot be followed yet");
            }
            backoff.wait().await;
        }
    }

    /// `from_ms` is moved on with what was read, so that nothing is missed by who begins again.
    async fn listen(
        &self,
        log: &EventLog,
        topics: &Topics,
        from_ms: &mut i64,
        backoff: &mut Backoff,
        report: &(impl Fn(Revoked) + Send),
    ) -> anyhow::Result<std::convert::Infallible> {
        let tail = log.tail()?;
        let topic = topics.resolve(&Tenant::management(), &Subject::REVOCATION).await?;
        let mut past: HashMap<i32, i64> = tail.add_since(&topic, *from_ms).await?.into_iter().collect();
        info!(%topic, "revocations are followed");
        loop {
            if past.is_empty() {
                self.0.caught_up.send_replace(true);
            }
            for record in tail.next_batch(1000).await? {
                let end = past.get(&record.partition).copied();
                // What is heard late counts from when it was announced. What is heard at once counts from now, because
                // a gateway may have heard it a moment later than it was announced.
                let at_ms = match end {
                    Some(end) if record.offset < end => record.timestamp_ms,
                    _ => self.0.clock.now_ms().max(record.timestamp_ms),
                };
                if end.is_some_and(|end| record.offset + 1 >= end) {
                    past.remove(&record.partition);
                }
                self.take_over(&record, at_ms, report);
                *from_ms = record.timestamp_ms.max(*from_ms);
            }
            backoff.reset();
        }
    }

    fn take_over(&self, record: &Record, at_ms: i64, report: &impl Fn(Revoked)) {
        match serde_json::from_slice(&record.value) {
            Ok(Revocation { user_id: Some(user_id), keeps_tokens: false, .. }) => {
                let revoked = Revoked { user_id, at_ms };
                self.remember(revoked);
                report(revoked);
            }
            // Permissions and groups are asked for when something is given, at the gateway.
            Ok(_) => {}
            Err(error) => {
                warn!(topic = %record.topic, offset = record.offset, %error, "not a revocation");
            }
        }
    }

    fn remember(&self, Revoked { user_id, at_ms }: Revoked) {
        let now = self.0.clock.now_ms();
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, at_ms| at_ms.saturating_add(self.0.keep_ms) > now);
        let known = users.entry(user_id).or_insert(at_ms);
        *known = at_ms.max(*known);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_was_given_dies_with_the_token_and_what_is_given_later_lives() {
        let clock = Clock::fixed(100_000);
        let revocations = Revocations::new(clock.clone(), 60);
        let covers = |user_id, issued_ms| revocations.covers(Holder { user_id, issued_ms });
        assert!(!covers(1, 100_000));
        revocations.remember(Revoked { user_id: 1, at_ms: 100_000 });
        // What is reported again from an earlier moment takes nothing back.
        revocations.remember(Revoked { user_id: 1, at_ms: 99_500 });
        assert!(covers(1, 99_000));
        assert!(covers(1, 100_000));
        assert!(!covers(1, 100_001));
        assert!(!covers(2, 99_000));
        clock.advance(60_000 + Revocations::CLOCKS_APART_MS);
        revocations.remember(Revoked { user_id: 2, at_ms: clock.now_ms() });
        assert_eq!(revocations.0.users.lock().unwrap().len(), 1, "old ones are forgotten");
    }

    #[test]
    fn changed_permissions_end_nothing() {
        let revocations = Revocations::new(Clock::fixed(100_000), 60);
        for (value, ends) in [
            (r#"{"user_id":1,"timestamp":0,"keeps_tokens":true}"#, false),
            (r#"{"timestamp":0,"keeps_tokens":true}"#, false),
            (r#"{"timestamp":0}"#, false),
            ("rubbish", false),
            (r#"{"user_id":1,"timestamp":0}"#, true),
        ] {
            let record = Record {
                topic: crate::wire::Topic::new(&Tenant::management(), &Subject::REVOCATION),
                partition: 0,
                offset: 0,
                timestamp_ms: 0,
                key: None,
                value: value.into(),
                headers: smallvec::SmallVec::new(),
            };
            let reported = std::cell::Cell::new(false);
            revocations.take_over(&record, 100_000, &|_| reported.set(true));
            assert_eq!(reported.get(), ends, "{value}");
            assert_eq!(revocations.covers(Holder { user_id: 1, issued_ms: 0 }), ends, "{value}");
        }
    }

    #[tokio::test]
    async fn who_comes_before_the_past_is_known_waits() {
        let revocations = Revocations::new(Clock::fixed(0), 60);
        let mut early = std::pin::pin!(revocations.heard());
        assert!(early.as_mut().now_or_never().is_none());
        revocations.0.caught_up.send_replace(true);
        assert!(early.await.is_ok());
        revocations.0.caught_up.send_replace(false);
        assert!(revocations.heard().now_or_never().is_none(), "until it is known again");
    }
}
