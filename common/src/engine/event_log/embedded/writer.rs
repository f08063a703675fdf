//! The only task that writes. One transaction for everything that waits, then everybody is told.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{error, warn};

use super::{
    Shared,
    batches::Batches,
    cache::Cache,
    changes::Writing,
    format::Batch,
    lock,
    queue::{Request, Work},
    retention::Retention,
    store::{Extent, unavailable},
    topic::TopicLog,
};
use crate::{backoff::Backoff, engine::event_log::LogError, wire::Topic};

/// Attempts to write before producers are told that it cannot be done.
const ATTEMPTS: u32 = 5;
/// How often expired records are looked for; records are kept for days.
pub(super) const CLEAN_EVERY: Duration = Duration::from_secs(30);
/// Batches that are deleted at once: appends wait meanwhile.
const CLEAN_BATCHES: usize = 256;
/// Topics whose batches are deleted at once, as every transaction waits for the disk.
const CLEAN_TOPICS: usize = 64;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) file: PathBuf,
    /// None after a failure, until it was opened again.
    pub(super) writing: Option<Writing>,
    pub(super) retention: Retention,
    pub(super) clean_every: Duration,
    /// When there may be something to be deleted.
    pub(super) clean_at: Instant,
    pub(super) cache: Cache,
    /// The latest timestamp, as a topic's timestamps must not go down when the clock does.
    pub(super) latest_ts: i64,
    /// Held until nothing is written any more.
    pub(super) directory_lock: File,
}

/// What a request changes in memory once it is durable.
enum Effect {
    Created { number: i64, topic: Topic, retention_ms: i64 },
    Deleted { topic: Topic },
}

impl Writer {
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let work = shared.queue.take();
            let is_idle = work.is_empty();
            if !is_idle {
                self.write(work).await;
            }
            if Instant::now() >= self.clean_at {
                // One small step at a time, so that appends hardly wait.
                if !self.clean().await {
                    self.clean_at = Instant::now() + self.clean_every;
                }
            } else if is_idle {
                if shared.queue.is_closed() {
                    break;
                }
                let _ = tokio::time::timeout_at(self.clean_at, shared.queue.filled()).await;
            }
        }
        self.close().await;
    }

    async fn close(mut self) {
        self.shared.store.close().await;
        if let Some(writing) = self.writing.take()
            && let Err(error) = writing.close().await
        {
            warn!(%error, "the embedded log was not closed well");
        }
        drop(self.directory_lock);
    }

    async fn write(&mut self, work: Work) {
        let room = work.room();
        let Work { appends, requests, .. } = work;
        self.latest_ts = self.shared.clock.now_ms().max(self.latest_ts);
        let (batches, deliveries) = Batches::put_together(appends, self.latest_ts);
        let began = Instant::now();
        match self.transact_at_last(&batches.rows(), &requests).await {
            Ok(effects) => {
                metrics::histogram!("embedded_log_transaction_seconds").record(began.elapsed());
                metrics::counter!("embedded_log_records_total").increment(deliveries.len() as u64);
                self.appended(batches);
                self.apply(effects);
                for (delivery, position) in deliveries {
                    delivery.complete(Ok(position));
                }
                for request in requests {
                    request.done();
                }
            }
            Err(error) => {
                for (delivery, _) in deliveries {
                    delivery.complete(Err(error.clone()));
                }
                for request in requests {
                    request.failed(&error);
                }
            }
        }
        self.shared.queue.give_back(room);
    }

    /// Writes, trying again a few times: a full disk may be made room on, and a stuck connection is replaced.
    async fn transact_at_last(
        &mut self,
        rows: &[(i64, Batch)],
        requests: &[Request],
    ) -> Result<Vec<Effect>, LogError> {
        if rows.is_empty() && requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut backoff = Backoff::default();
        let mut attempt = 1;
        loop {
            match self.transact(rows, requests).await {
                Ok(effects) => {
                    lock(&self.shared.failure).take();
                    return Ok(effects);
                }
                Err(failure) => {
                    error!(error = %failure, attempt, "the embedded log cannot write");
                    *lock(&self.shared.failure) = Some(failure.to_string());
                    self.writing = None;
                    if attempt == ATTEMPTS {
                        return Err(unavailable(failure));
                    }
                }
            }
            attempt += 1;
            backoff.wait().await;
        }
    }

    async fn transact(
        &mut self,
        rows: &[(i64, Batch)],
        requests: &[Request],
    ) -> Result<Vec<Effect>, sqlx::Error> {
        let mut changes = self.writing().await?.begin().await?;
        changes.insert(rows).await?;
        let mut effects = Vec::new();
        for request in requests {
            match request {
                Request::CreateTopic { topic, retention_ms, .. } => {
                    let (topic, retention_ms) = (topic.clone(), *retention_ms);
                    let number = changes.create_topic(topic.as_str(), retention_ms).await?;
                    effects.push(Effect::Created { number, topic, retention_ms });
                }
                Request::DeleteTopic { topic, .. } => {
                    if changes.delete_topic(topic.as_str()).await?.is_some() {
                        effects.push(Effect::Deleted { topic: topic.clone() });
                    }
                }
                Request::Commit { group, offsets, .. } => {
                    changes.commit_offsets(&group.name, offsets).await?;
                }
            }
        }
        changes.commit().await?;
        Ok(effects)
    }

    async fn writing(&mut self) -> Result<&mut Writing, sqlx::Error> {
        let writing = match self.writing.take() {
            Some(writing) => writing,
            None => Writing::open(&self.file).await?,
        };
        Ok(self.writing.insert(writing))
    }

    /// The readers may have what is durable now, and before the producers are told: who has been told finds the
    /// record behind the head.
    fn appended(&mut self, batches: Batches) {
        for (topic, batch) in batches.into_finished() {
            self.retention.watch(&topic, batch.max_ts);
            self.cache.push(&topic, &batch);
            topic.appended(batch);
        }
        self.cache.shrink();
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Created { number, topic, retention_ms } => {
                    self.shared.topic_created(number, topic, retention_ms);
                }
                Effect::Deleted { topic } => {
                    if let Some(number) = self.shared.topic_deleted(&topic) {
                        self.retention.deleted(number);
                        self.clean_at = Instant::now();
                    }
                }
            }
        }
    }

    /// Deletes a little of what has expired. Returns whether there may be more.
    async fn clean(&mut self) -> bool {
        match self.try_clean().await {
            Ok(more) => more,
            Err(error) => {
                warn!(%error, "expired records cannot be deleted for the moment");
                self.writing = None;
                false
            }
        }
    }

    async fn try_clean(&mut self) -> Result<bool, sqlx::Error> {
        if let Some(number) = self.retention.next_deleted() {
            if self.purge(number).await? {
                self.retention.forget_deleted();
            }
            return Ok(true);
        }
        let now_ms = self.shared.clock.now_ms();
        let due = self.retention.take_due(now_ms, CLEAN_TOPICS);
        if due.is_empty() {
            return Ok(false);
        }
        let oldest = self.expire(&due, now_ms).await;
        // Watched again whatever happened; after a failure with the same batches.
        match &oldest {
            Ok(oldest) => {
                for (topic, extent) in due.iter().zip(oldest) {
                    if let Some(extent) = extent {
                        self.retention.watch(topic, extent.max_ts);
                    }
                }
            }
            Err(_) => {
                for topic in &due {
                    self.retention.watch(topic, now_ms - topic.retention_ms);
                }
            }
        }
        oldest.map(|_| true)
    }

    /// Deletes the oldest batches of a deleted topic. Returns whether none is left.
    async fn purge(&mut self, number: i64) -> Result<bool, sqlx::Error> {
        let mut changes = self.writing().await?.begin().await?;
        let oldest = changes.oldest(number, CLEAN_BATCHES as i64).await?;
        if let Some(last) = oldest.last() {
            changes.expire(number, last.last + 1).await?;
        }
        let is_done = oldest.len() < CLEAN_BATCHES;
        if is_done {
            changes.forget_topic(number).await?;
        }
        changes.commit().await?;
        Ok(is_done)
    }

    /// Deletes the oldest batches of some topics as far as all their records have expired. Returns, for each topic, the
    /// batch that is the oldest afterwards.
    async fn expire(
        &mut self,
        topics: &[Arc<TopicLog>],
        now_ms: i64,
    ) -> Result<Vec<Option<Extent>>, sqlx::Error> {
        let most = CLEAN_BATCHES / topics.len().max(1);
        let mut changes = self.writing().await?.begin().await?;
        let (mut left, mut starts) = (Vec::with_capacity(topics.len()), Vec::new());
        for topic in topics {
            let until_ms = now_ms - topic.retention_ms;
            let oldest = changes.oldest(topic.number, most as i64 + 1).await?;
            let expired = oldest.iter().take(most).take_while(|extent| extent.max_ts <= until_ms).count();
            if let Some(last) = expired.checked_sub(1).and_then(|index| oldest.get(index)) {
                changes.expire(topic.number, last.last + 1).await?;
                starts.push((topic, last.last + 1));
            }
            left.push(oldest.get(expired).copied());
        }
        changes.commit().await?;
        for (topic, start) in starts {
            topic.expired(start);
        }
        Ok(left)
    }
}

impl Request {
    fn done(self) {
        if let Self::Commit { group, offsets, reply } = self {
            group.committed(offsets);
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(()));
        } else {
            let _ = self.into_reply().send(Ok(()));
        }
    }

    fn failed(self, error: &LogError) {
        let _ = self.into_reply().send(Err(error.clone()));
    }

    fn into_reply(self) -> super::queue::Reply {
        match self {
            Self::CreateTopic { reply, .. }
            | Self::DeleteTopic { reply, .. }
            | Self::Commit { reply, .. } => reply,
        }
    }
}
