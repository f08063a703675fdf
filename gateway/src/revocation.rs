//! Listens to the announcements of auth, so that no decision outlives the revocation that makes it void.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{
        Engines,
        event_log::{LogError, Record, Start, Tail},
    },
    tenancy::Topics,
    wire::{Subject, Tenant, Topic, event::Revocation},
};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::{SERVICE, validity::Validity};

/// How often the log is asked how far it goes.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer of the log may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long decisions are trusted after everything on the log had been heard.
const TRUST_MS: i64 = 5_000;

/// Follows revocations, for ever.
pub(crate) async fn follow(engines: Engines, validity: Arc<Validity>) {
    let topics = Topics::new(engines.client.clone(), SERVICE);
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = listen(&engines, &topics, &validity, &mut backoff).await {
            validity.distrust();
            topics.forget(&Tenant::management(), &Subject::REVOCATION);
            warn!(error = format!("{error:#}"), "revocations are not heard: every request asks the PDP");
        }
        backoff.wait().await;
    }
}

async fn listen(
    engines: &Engines,
    topics: &Topics,
    validity: &Validity,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let tail = engines.log.tail()?;
    let topic = topics.resolve(&Tenant::management(), &Subject::REVOCATION).await?;
    let heard = Heard::from(tail.add(&topic, Start::End).await?);
    info!(%topic, "revocations are followed");
    backoff.reset();
    let listener = Listener { tail, topic, heard, clock: engines.clock.clone() };
    tokio::select! {
        ended = listener.read(validity) => ended,
        ended = listener.watch(validity) => ended,
    }
}

struct Listener {
    tail: Tail,
    topic: Topic,
    heard: Heard,
    clock: Clock,
}

impl Listener {
    async fn read(&self, validity: &Validity) -> anyhow::Result<()> {
        loop {
            for record in self.tail.next_batch(1000).await? {
                apply(&record, &self.clock, validity);
                self.heard.advance(&record);
            }
        }
    }

    /// Extends the trust for as long as everything that is on the log has been heard.
    async fn watch(&self, validity: &Validity) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(CHECK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let (asked_ms, before) = (self.clock.now_ms(), self.heard.next());
            // The topic is on the tail already: this only asks how far it goes.
            let ends = tokio::time::timeout(CHECK_TIMEOUT, self.tail.add(&self.topic, Start::End)).await;
            match ends {
                Ok(Ok(ends)) if self.heard.covers(&before, &ends)? => {
                    validity.trust(self.clock.now_ms(), asked_ms + TRUST_MS);
                }
                Ok(Err(error @ LogError::UnknownTopic(_))) => return Err(error.into()),
                // Away or behind: the trust runs out unless this passes soon.
                _ => {}
            }
        }
    }
}

/// Up to where revocations have been heard, by partition.
struct Heard(Mutex<HashMap<i32, i64>>);

impl From<Vec<(i32, i64)>> for Heard {
    fn from(ends: Vec<(i32, i64)>) -> Self {
        Self(Mutex::new(ends.into_iter().collect()))
    }
}

impl Heard {
    fn advance(&self, record: &Record) {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        next.insert(record.partition, record.offset + 1);
    }

    /// The offsets that are to be heard next.
    fn next(&self) -> HashMap<i32, i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing below these ends is left. `before` is what was next before the ends were asked for: an error
    /// tells that this is not the topic any more that was read.
    fn covers(&self, before: &HashMap<i32, i64>, ends: &[(i32, i64)]) -> anyhow::Result<bool> {
        let now = self.next();
        for (partition, end) in ends {
            let before = before.get(partition).context("the topic has a new partition")?;
            anyhow::ensure!(before <= end, "the topic has begun anew");
        }
        Ok(ends.iter().all(|(partition, end)| now.get(partition).is_some_and(|next| next >= end)))
    }
}

fn apply(record: &Record, clock: &Clock, validity: &Validity) {
    metrics::counter!("gateway_revocations_total").increment(1);
    validity.note(clock.now_ms());
    match serde_json::from_slice::<Revocation>(&record.value) {
        Ok(Revocation { user_id: Some(user_id), .. }) => validity.revoke(user_id, clock.now_ms()),
        Ok(Revocation { user_id: None, .. }) => validity.revoke_all(),
        Err(error) => {
            // Whoever was meant: nobody keeps what may have been taken away.
            validity.revoke_all();
            warn!(topic = %record.topic, offset = record.offset, %error, "not a revocation");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_heard_everything_may_trust() {
        let heard = Heard::from(vec![(0, 5), (1, 0)]);
        for (ends, expected) in [
            (vec![(0, 5), (1, 0)], Some(true)),
            (vec![(0, 6), (1, 0)], Some(false)),
            (vec![(0, 5), (1, 1)], Some(false)),
            (vec![(0, 4), (1, 0)], None),
            (vec![(0, 5), (1, 0), (2, 0)], None),
        ] {
            assert_eq!(heard.covers(&heard.next(), &ends).ok(), expected, "{ends:?}");
        }
        let before = heard.next();
        heard.0.lock().unwrap().insert(0, 7);
        assert!(
            heard.covers(&before, &[(0, 6), (1, 0)]).unwrap(),
            "it went on while the ends were asked for"
        );
    }
}
