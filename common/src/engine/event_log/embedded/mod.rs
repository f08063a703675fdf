//! The log in SQLite, in this process.
//!
//! Producers put records into a bounded queue ([`queue`]); one task ([`writer`]) writes everything that waits in one
//! transaction ([`changes`]), so that the disk is waited for once for many records; then it tells the producers and
//! wakes the readers ([`reader`]) of the topics ([`topic`]). Readers who keep up are served from memory.

mod batches;
mod cache;
mod changes;
mod format;
mod group;
mod queue;
mod reader;
mod retention;
mod store;
mod tail;
mod topic;
mod writer;

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use self::{group::EmbeddedGroup, tail::EmbeddedTail};

use self::{
    cache::Cache,
    changes::Writing,
    group::Group,
    queue::{Queue, Request},
    retention::Retention,
    store::{Store, unavailable},
    topic::TopicLog,
    writer::Writer,
};
use super::{Delivery, LogError, NewRecord, TopicProfile};
use crate::{
    backoff::Backoff,
    clock::Clock,
    shutdown::Shutdown,
    wire::{Tenant, Topic},
};

/// Settings of the embedded log, section `embedded_log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedLogSettings {
    /// How many bytes of records may wait for the disk before producers wait.
    pub queue_bytes: usize,
}

/// The embedded log. Cheap to clone. When the last clone, group and tail is gone, what waits is written and the
/// files are closed.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Handle>);

/// Closes the queue when it is dropped, which ends the writer.
struct Handle {
    shared: Arc<Shared>,
    _tasks: Shutdown,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// What the writer and everybody else have in common.
struct Shared {
    queue: Queue,
    store: Store,
    clock: Clock,
    /// Changed only by the writer.
    topics: RwLock<HashMap<Topic, Arc<TopicLog>>>,
    groups: Mutex<HashMap<Box<str>, Arc<Group>>>,
    /// Why the last transaction failed, if it did.
    failure: Mutex<Option<String>>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, which one process may do at a time.
    pub async fn open(
        directory: &Path,
        settings: &EmbeddedLogSettings,
        clock: Clock,
    ) -> Result<Self, LogError> {
        Self::open_cleaned_every(writer::CLEAN_EVERY, directory, settings, clock).await
    }

    /// Opens the log with another interval at which expired records are looked for.
    pub(super) async fn open_cleaned_every(
        clean_every: Duration,
        directory: &Path,
        settings: &EmbeddedLogSettings,
        clock: Clock,
    ) -> Result<Self, LogError> {
        tokio::fs::create_dir_all(directory).await.map_err(|error| no_directory(directory, &error))?;
        let directory_lock = lock_directory(directory).await?;
        let file = directory.join("log.db");
        let writing = Writing::open(&file).await.map_err(unavailable)?;
        let store = Store::open(&file).await?;
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue_bytes),
            store,
            clock,
            topics: RwLock::default(),
            groups: Mutex::default(),
            failure: Mutex::default(),
        });
        let retention = shared.load().await?;
        let writer = Writer {
            shared: Arc::clone(&shared),
            file,
            writing: Some(writing),
            retention,
            clean_every,
            clean_at: Instant::now(),
            cache: Cache::default(),
            latest_ts: i64::MIN,
            directory_lock,
        };
        let tasks = Shutdown::default();
        tasks.spawn("embedded log", writer.run());
        Ok(Self(Arc::new(Handle { shared, _tasks: tasks })))
    }

    /// See [`EventLog::create_topic`](super::EventLog::create_topic).
    pub async fn create_topic(&self, topic: &Topic, profile: TopicProfile) -> Result<(), LogError> {
        if self.shared().topic(topic).is_some() {
            return Ok(());
        }
        let (topic, retention_ms) = (topic.clone(), profile.retention_ms);
        self.shared().queue.request(|reply| Request::CreateTopic { topic, retention_ms, reply }).await
    }

    /// See [`EventLog::delete_topic`](super::EventLog::delete_topic).
    pub async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        let topic = topic.clone();
        self.shared().queue.request(|reply| Request::DeleteTopic { topic, reply }).await
    }

    /// See [`EventLog::topics_of`](super::EventLog::topics_of).
    pub fn topics_of(&self, tenant: &Tenant) -> Vec<Topic> {
        let topics = self.shared().topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Topic> = topics.keys().filter(|topic| topic.tenant() == tenant).cloned().collect();
        found.sort_unstable();
        found
    }

    /// See [`EventLog::produce`](super::EventLog::produce).
    pub async fn produce(&self, record: NewRecord, delivery: Delivery) {
        if !format::is_encodable(&record) {
            return delivery.complete(Err(LogError::TooLarge));
        }
        let Some(topic) = self.shared().topic(&record.topic) else {
            return delivery.complete(Err(LogError::UnknownTopic(record.topic.to_string())));
        };
        self.shared().queue.append(topic, record, delivery).await;
    }

    /// See [`EventLog::group`](super::EventLog::group).
    pub fn group(&self, group: &str) -> EmbeddedGroup {
        EmbeddedGroup::join(self.clone(), self.shared().group(group))
    }

    /// See [`EventLog::tail`](super::EventLog::tail).
    pub fn tail(&self) -> EmbeddedTail {
        EmbeddedTail::new(self.clone())
    }

    /// See [`EventLog::check`](super::EventLog::check).
    pub async fn check(&self) -> Result<(), LogError> {
        if let Some(failure) = lock(&self.shared().failure).clone() {
            return Err(LogError::Unavailable(failure));
        }
        self.shared().store.check().await
    }

    /// See [`EventLog::flush`](super::EventLog::flush).
    pub async fn flush(&self) {
        self.shared().queue.flush().await;
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl Shared {
    /// Takes over what is stored. Returns what may expire.
    async fn load(&self) -> Result<Retention, LogError> {
        let mut retention = Retention::default();
        for stored in self.store.topics().await? {
            let Some(name) = stored.name else {
                retention.deleted(stored.number);
                continue;
            };
            let topic = Topic::parse(&name).map_err(|error| LogError::Failed(error.to_string()))?;
            let log =
                TopicLog::new(stored.number, topic.clone(), stored.retention_ms, stored.start, stored.head);
            let log = Arc::new(log);
            if let Some(oldest_ts) = stored.oldest_ts {
                retention.watch(&log, oldest_ts);
            }
            self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(topic, log);
        }
        for stored in self.store.commits().await? {
            self.group(&stored.group).committed([(stored.number, stored.next)]);
        }
        Ok(retention)
    }

    fn topic(&self, topic: &Topic) -> Option<Arc<TopicLog>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(name) {
            return Arc::clone(group);
        }
        let group = Arc::new(Group::new(name));
        groups.insert(name.into(), Arc::clone(&group));
        group
    }

    fn every_group(&self) -> Vec<Arc<Group>> {
        lock(&self.groups).values().cloned().collect()
    }

    /// A topic is in the table now, or was already.
    fn topic_created(&self, number: i64, topic: Topic, retention_ms: i64) {
        if self.topic(&topic).is_some() {
            return;
        }
        let log = Arc::new(TopicLog::new(number, topic.clone(), retention_ms, 0, 0));
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(topic, Arc::clone(&log));
        for group in self.every_group() {
            group.topic_created(&log);
        }
    }

    /// A topic has lost its name in the table. Returns its number.
    fn topic_deleted(&self, topic: &Topic) -> Option<i64> {
        let log = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic)?;
        log.deleted();
        for group in self.every_group() {
            group.topic_deleted(&log);
        }
        Some(log.number)
    }
}

/// Two writers would give the same offset to different records.
async fn lock_directory(directory: &Path) -> Result<File, LogError> {
    const ATTEMPTS: u32 = 20;
    let path = directory.join("log.lock");
    let file = File::create(&path).map_err(|error| no_directory(&path, &error))?;
    let mut backoff = Backoff::up_to(Duration::from_millis(500));
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(no_directory(&path, &error)),
            // A process that is just ending lets go of it soon.
            Err(TryLockError::WouldBlock) => backoff.wait().await,
        }
    }
    Err(LogError::Unavailable(format!("{} is used by another process", directory.display())))
}

fn no_directory(path: &Path, error: &std::io::Error) -> LogError {
    LogError::Unavailable(format!("{}: {error}", path.display()))
}

/// A thread that panicked while it held a lock left nothing half done: all changes under locks are small.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
