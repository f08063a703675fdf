//! The loop of every service that works through the topics of all tenants: read, handle, commit.
//!
//! Reading and committing have a pace of their own (`consume/pace.rs`), because handling a batch usually waits for a disk: records
//! that come one by one are handled some at a time, and what was handled is committed now and then.

mod pace;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    future::Future,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use self::pace::Pace;
use crate::{
    backoff::Backoff,
    engine::{
        Engines,
        event_log::{GroupConsumer, Headers, LogError, NewRecord, Record},
    },
    tenancy::{self, Removal, TenantChange, Topics, Turn},
    wire::{Subject, Tenant, Topic, header},
};

/// A record that can never be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Its place in the batch.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Something that works through records.
pub trait Handler: Send + Sync + 'static {
    /// Handles a batch. Must be idempotent: after a crash the same records come again.
    ///
    /// Returns the records that are malformed; they are set aside and never come again. An error means that the
    /// whole batch is tried again later.
    fn handle(&mut self, batch: &[Record]) -> impl Future<Output = anyhow::Result<Vec<Malformed>>> + Send;

    /// Removes what the service keeps of a tenant that is gone; tries until nothing is left. No more records of the tenant
    /// come, those of others are handled meanwhile.
    fn purge(&self, removal: Removal) -> impl Future<Output = ()> + Send + 'static;
}

/// What to consume.
#[derive(Clone)]
pub struct Consumption {
    /// Name of the service, which is also the name of its group.
    pub service: &'static str,
    /// Subjects to follow, of every tenant.
    pub subjects: Vec<Subject>,
    /// Largest batch handed to the handler.
    pub max_batch: usize,
}

/// Consumes until the end is asked for. Runs as a task of `engines.shutdown`.
pub fn start(engines: &Engines, topics: Topics, what: Consumption, handler: impl Handler) {
    let changes = tenancy::follow(engines, topics.clone(), what.service, Turn::AtOnce);
    let worker = Worker {
        engines: engines.clone(),
        topics,
        what,
        handler,
        subscribed: BTreeMap::new(),
        gone: HashSet::new(),
        pace: Pace::default(),
    };
    engines.shutdown.spawn_vital("consumer", worker.run(changes));
}

struct Worker<H> {
    engines: Engines,
    topics: Topics,
    what: Consumption,
    handler: H,
    subscribed: BTreeMap<Tenant, Vec<Topic>>,
    /// Tenants that were removed: records of theirs that were fetched before must not be stored after the purge.
    gone: HashSet<Tenant>,
    pace: Pace,
}

/// Waits for records, of which none is asked for before `at`. Safe to cancel.
async fn next_batch(group: &mut GroupConsumer, at: Instant, max: usize) -> Result<Vec<Record>, LogError> {
    sleep_until(at).await;
    group.next_batch(max).await
}

impl<H: Handler> Worker<H> {
    /// Topics of new tenants are asked for so many at a time.
    const AT_ONCE: usize = 32;
    /// How long the last commit may take when the process ends.
    const LAST_COMMIT: Duration = Duration::from_secs(2);

    async fn run(mut self, mut changes: tokio::sync::mpsc::Receiver<TenantChange>) -> anyhow::Result<()> {
        let shutdown = self.engines.shutdown.clone();
        let mut group = self.engines.log.group(self.what.service)?;
        let mut backoff = Backoff::default();
        loop {
            // Looked at in every round, as reading may be ready in each.
            if self.pace.commit_is_due() {
                self.commit(&mut group).await;
            }
            tokio::select! {
                () = shutdown.requested() => break,
                () = self.pace.commit_becomes_due() => {}
                change = changes.recv() => {
                    // Whoever tells of changes may hear of the end first.
                    let Some(change) = change else { break };
                    // Changes come in bursts, at start above all: one subscription for all that is waiting.
                    let mut burst = vec![change];
                    while let Ok(next) = changes.try_recv() {
                        burst.push(next);
                    }
                    if shutdown.unless_requested(self.take_over(burst, &mut group)).await.is_none() {
                        break;
                    }
                }
                batch = next_batch(&mut group, self.pace.next_read(), self.what.max_batch) => match batch {
                    Ok(mut batch) => {
                        backoff.reset();
                        self.pace.read(batch.len(), self.what.max_batch);
                        if !self.gone.is_empty() {
                            batch.retain(|record| !self.gone.contains(record.topic.tenant()));
                        }
                        if shutdown.unless_requested(self.work(&batch)).await.is_none() {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        warn!(service = self.what.service, %error, "cannot read from the log");
                        backoff.wait().await;
                    }
                },
            }
        }
        // Everything that was read is handled here. Without this commit a little would be handled again.
        let _ = timeout(Self::LAST_COMMIT, self.commit(&mut group)).await;
        Ok(())
    }

    async fn take_over(&mut self, changes: Vec<TenantChange>, group: &mut GroupConsumer) {
        let mut created = Vec::new();
        for change in changes {
            match change {
                TenantChange::Created(tenant) => {
                    self.gone.remove(&tenant);
                    created.push(tenant);
                }
                TenantChange::Removed(tenant) => {
                    created.retain(|other| *other != tenant);
                    self.subscribed.remove(&tenant);
                    self.gone.insert(tenant);
                }
                TenantChange::Missing(tenant) => {
                    created.retain(|other| *other != tenant);
                    self.subscribed.remove(&tenant);
                }
                TenantChange::Purge(removal) => {
                    let work = self.handler.purge(removal.clone());
                    removal.carry_out(&self.engines.shutdown, work);
                }
            }
        }
        let topics = &self.topics;
        let subjects = &self.what.subjects;
        let found: Vec<(Tenant, Vec<Topic>)> = stream::iter(created)
            .map(|tenant| async move {
                let mut own = Vec::with_capacity(subjects.len());
                for subject in subjects {
                    // None: the tenant is gone again, which the next change will say.
                    own.extend(topics.resolve_at_last(&tenant, subject).await);
                }
                (tenant, own)
            })
            .buffer_unordered(Self::AT_ONCE)
            .collect()
            .await;
        self.subscribed.extend(found);
        // Who gets the topics that are left goes on from here.
        self.commit(group).await;
        let all: Vec<Topic> = self.subscribed.values().flatten().cloned().collect();
        info!(service = self.what.service, topics = all.len(), "subscribed");
        if let Err(error) = group.subscribe(&all) {
            warn!(service = self.what.service, %error, "cannot subscribe");
        }
    }

    async fn work(&mut self, batch: &[Record]) {
        let mut backoff = Backoff::default();
        loop {
            match self.try_work(batch).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(service = self.what.service, error = format!("{error:#}"), "will try again");
                    metrics::counter!("consumer_retries_total", "service" => self.what.service).increment(1);
                }
            }
            backoff.wait().await;
        }
        metrics::counter!("consumer_records_total", "service" => self.what.service)
            .increment(batch.len() as u64);
        self.pace.handled();
    }

    /// Commits what was handled, if there is something. Everything that was read must have been handled.
    async fn commit(&mut self, group: &mut GroupConsumer) {
        if !self.pace.has_uncommitted() {
            return;
        }
        match group.commit().await {
            Ok(()) => self.pace.committed(),
            Err(error) => {
                // The work is done; after a restart or a rebalance the same records are handled again.
                warn!(service = self.what.service, %error, "cannot commit");
                self.pace.not_committed();
            }
        }
    }

    async fn try_work(&mut self, batch: &[Record]) -> anyhow::Result<()> {
        for malformed in self.handler.handle(batch).await? {
            if let Some(record) = batch.get(malformed.index) {
                self.set_aside(record, malformed.reason).await?;
            }
        }
        Ok(())
    }

    async fn set_aside(&self, record: &Record, reason: String) -> anyhow::Result<()> {
        let source = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        warn!(service = self.what.service, source, reason, "a record cannot be read and is set aside");
        metrics::counter!("consumer_malformed_total", "service" => self.what.service).increment(1);
        let topic = self.topics.resolve(record.topic.tenant(), &Subject::DEAD_LETTER).await?;
        let mut headers = Headers::new();
        headers.push((header::REASON, Bytes::from(reason)));
        headers.push((header::SOURCE, Bytes::from(source)));
        let copy = NewRecord { topic, key: record.key.clone(), value: record.value.clone(), headers };
        match self.engines.log.append(copy).await {
            // The tenant is gone: nobody is left who would look at it.
            Ok(_) | Err(LogError::UnknownTopic(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
