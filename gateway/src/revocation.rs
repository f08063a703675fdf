//! Listens to the announcements of auth, so that what was revoked is not remembered (design.md 5).

use std::{sync::Arc, time::Duration};

use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{
        Engines,
        event_log::{Record, Start, Tail},
    },
    tenancy::Topics,
    wire::{Subject, Tenant, event::Revocation},
};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::{SERVICE, validity::Validity};

/// How often the log is asked whether it is there.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer of the log may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long decisions are trusted after the log has answered.
const TRUST_MS: i64 = 5_000;

/// Follows revocations, for ever.
pub(crate) async fn follow(engines: Engines, validity: Arc<Validity>) {
    let topics = Topics::new(engines.client.clone(), SERVICE);
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = listen(&engines, &topics, &validity, &mut backoff).await {
            validity.distrust();
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
    if let Err(error) = tail.add(&topic, Start::End).await {
        topics.forget(&Tenant::management(), &Subject::REVOCATION);
        return Err(error.into());
    }
    info!(%topic, "revocations are followed");
    backoff.reset();
    tokio::select! {
        ended = read(&tail, &engines.clock, validity) => ended,
        () = watch(engines, validity) => Ok(()),
    }
}

async fn read(tail: &Tail, clock: &Clock, validity: &Validity) -> anyhow::Result<()> {
    loop {
        for record in tail.next_batch(1000).await? {
            apply(&record, clock, validity);
        }
    }
}

fn apply(record: &Record, clock: &Clock, validity: &Validity) {
    metrics::counter!("gateway_revocations_total").increment(1);
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

/// Trusts what is remembered for as long as the log answers, and a few seconds more.
async fn watch(engines: &Engines, validity: &Validity) {
    let mut every = tokio::time::interval(CHECK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Ok(Ok(())) = tokio::time::timeout(CHECK_TIMEOUT, engines.log.check()).await {
            let now = engines.clock.now_ms();
            validity.trust(now, now + TRUST_MS);
        }
    }
}
