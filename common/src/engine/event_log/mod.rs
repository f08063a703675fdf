//! The log: append-only topics, read by groups that share the work or by tails that see everything.
//!
//! Both engines promise the same: a record is durable before its delivery is reported; records of one key keep
//! their order; a group reads on from its last committed offset after a crash, so it sees every record at least
//! once; readers are woken by new records and never poll for them.

mod embedded;
mod kafka;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use embedded::{EmbeddedGroup, EmbeddedLog, EmbeddedLogSettings, EmbeddedTail};
pub use kafka::{KafkaGroup, KafkaLog, KafkaSettings, KafkaTail};

use crate::wire::{Tenant, Topic, header};

/// The largest record that an engine takes, with its key and headers.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Facts about a record beside its value, see [`crate::wire::header`].
pub type Headers = SmallVec<[(&'static str, Bytes); 2]>;

/// The header that says which of the tenants that have had a name a record was made for; none when nobody knows (0).
pub fn generation_header(generation: i64) -> Option<(&'static str, Bytes)> {
    (generation != 0).then(|| (header::GENERATION, Bytes::from(generation.to_string())))
}

/// A record to be appended.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Where to.
    pub topic: Topic,
    /// Records of one key keep their order; without a key the engine chooses a partition.
    pub key: Option<Bytes>,
    /// The contract's message.
    pub value: Bytes,
    /// Facts beside the message.
    pub headers: Headers,
}

impl NewRecord {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers
    }
}

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it was.
    pub topic: Topic,
    /// Partition of the topic.
    pub partition: i32,
    /// Position in the partition.
    pub offset: i64,
    /// When it was appended, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Key, if it has one.
    pub key: Option<Bytes>,
    /// The contract's message.
    pub value: Bytes,
    /// Facts beside the message, name and value.
    pub headers: SmallVec<[(Box<str>, Bytes); 2]>,
}

impl Record {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find_map(|(key, value)| (&**key == name).then_some(value))
    }

    /// Which of the tenants that have had the name of its topic's tenant it was made for; 0 when it does not say.
    pub fn generation(&self) -> i64 {
        let said =
            self.header(header::GENERATION).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        said.unwrap_or_default()
    }
}

/// Where a record came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
}

/// How a topic is to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicProfile {
    /// Number of partitions; the embedded engine always has one.
    pub partitions: i32,
    /// Number of copies; the embedded engine always has one.
    pub replication: i32,
    /// How long records are kept, in milliseconds.
    pub retention_ms: i64,
}

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The engine cannot be reached or is not ready; trying again later may help.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The topic does not exist (any more).
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// The record is larger than the engine takes.
    #[error("the record is too large")]
    TooLarge,
    /// Anything else.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// Is told what became of the records of one producer, in any order and from any thread. Must not block.
pub trait DeliverySink: Send + Sync + 'static {
    /// The record that was produced with `token` is durable, or is not on the log.
    fn delivered(&self, token: u64, result: Result<Position, LogError>);
}

/// The promise to report on one record. Reports a failure when it is dropped unfulfilled.
pub struct Delivery(Option<(Arc<dyn DeliverySink>, u64)>);

impl Delivery {
    /// A report to `sink` that carries `token`.
    pub fn new(sink: Arc<dyn DeliverySink>, token: u64) -> Self {
        Self(Some((sink, token)))
    }

    /// Reports the outcome.
    pub fn complete(mut self, result: Result<Position, LogError>) {
        if let Some((sink, token)) = self.0.take() {
            sink.delivered(token, result);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((sink, token)) = self.0.take() {
            sink.delivered(token, Err(LogError::Unavailable("the record was dropped".to_owned())));
        }
    }
}

/// Where a tail begins to read a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first record that is appended after the topic was added.
    End,
    /// With the first record that is not older than this (milliseconds since the epoch).
    At(i64),
}

/// What a tail has before it in one partition when a topic is added to it.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    partition: i32,
    /// Offset of the first record that it will see.
    begin: i64,
    /// Offset that the next appended record has.
    end: i64,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub enum EventLog {
    /// Apache Kafka.
    Kafka(KafkaLog),
    /// SQLite in this process.
    Embedded(EmbeddedLog),
}

impl EventLog {
    /// Creates a topic; does nothing when it exists.
    pub async fn create_topic(&self, topic: &Topic, profile: TopicProfile) -> Result<(), LogError> {
        match self {
            Self::Kafka(log) => log.create_topic(topic, profile).await,
            Self::Embedded(log) => log.create_topic(topic, profile).await,
        }
    }

    /// Deletes a topic with its records and committed offsets; does nothing when it does not exist.
    pub async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        match self {
            Self::Kafka(log) => log.delete_topic(topic).await,
            Self::Embedded(log) => log.delete_topic(topic).await,
        }
    }

    /// All topics of a tenant, in the order of their names. One that is created or deleted at the same moment may be
    /// among them or not.
    pub async fn topics_of(&self, tenant: &Tenant) -> Result<Vec<Topic>, LogError> {
        match self {
            Self::Kafka(log) => log.topics_of(tenant).await,
            Self::Embedded(log) => Ok(log.topics_of(tenant)),
        }
    }

    /// Hands a record over and waits only for room, not for durability: `delivery` tells when it is durable.
    ///
    /// Records of one key are appended in the order in which they were handed over. While the engine is away the
    /// record is kept and tried again without an end; room runs out, and callers wait here.
    pub async fn produce(&self, record: NewRecord, delivery: Delivery) {
        if record.size() > MAX_RECORD_BYTES {
            return delivery.complete(Err(LogError::TooLarge));
        }
        match self {
            Self::Kafka(log) => log.produce(record, delivery).await,
            Self::Embedded(log) => log.produce(record, delivery).await,
        }
    }

    /// Appends a record and waits until it is durable. Callers set their own time-out.
    pub async fn append(&self, record: NewRecord) -> Result<Position, LogError> {
        struct Once(std::sync::Mutex<Option<tokio::sync::oneshot::Sender<Result<Position, LogError>>>>);
        impl DeliverySink for Once {
            fn delivered(&self, _: u64, result: Result<Position, LogError>) {
                let sender = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                if let Some(sender) = sender {
                    let _ = sender.send(result);
                }
            }
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sink = Arc::new(Once(std::sync::Mutex::new(Some(sender))));
        self.produce(record, Delivery::new(sink, 0)).await;
        receiver.await.unwrap_or_else(|_| Err(LogError::Unavailable("the log is shutting down".to_owned())))
    }

    /// A member of a group whose members share the partitions of the topics they subscribe to.
    ///
    /// A group begins with the oldest record of a topic and goes on from what it committed.
    pub fn group(&self, group: &str) -> Result<GroupConsumer, LogError> {
        Ok(match self {
            Self::Kafka(log) => GroupConsumer::Kafka(log.group(group)?),
            Self::Embedded(log) => GroupConsumer::Embedded(log.group(group)),
        })
    }

    /// A reader that sees every record of its topics, for fan-out. Nothing is committed.
    pub fn tail(&self) -> Result<Tail, LogError> {
        Ok(match self {
            Self::Kafka(log) => Tail::Kafka(log.tail()?),
            Self::Embedded(log) => Tail::Embedded(log.tail()),
        })
    }

    /// Whether the engine answers, for readiness.
    pub async fn check(&self) -> Result<(), LogError> {
        match self {
            Self::Kafka(log) => log.check().await,
            Self::Embedded(log) => log.check().await,
        }
    }

    /// Waits until everything that was produced is durable or given up, when a process ends.
    pub async fn flush(&self) {
        match self {
            Self::Kafka(log) => log.flush().await,
            Self::Embedded(log) => log.flush().await,
        }
    }
}

/// A member of a group, see [`EventLog::group`].
pub enum GroupConsumer {
    /// Of Apache Kafka.
    Kafka(kafka::KafkaGroup),
    /// Of SQLite.
    Embedded(embedded::EmbeddedGroup),
}

impl GroupConsumer {
    /// Replaces the set of topics. Topics that do not exist yet are picked up when they come.
    pub fn subscribe(&mut self, topics: &[Topic]) -> Result<(), LogError> {
        match self {
            Self::Kafka(group) => group.subscribe(topics),
            Self::Embedded(group) => {
                group.subscribe(topics);
                Ok(())
            }
        }
    }

    /// Waits for records and returns between 1 and `max` of them. Safe to cancel.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        match self {
            Self::Kafka(group) => group.next_batch(max).await,
            Self::Embedded(group) => group.next_batch(max).await,
        }
    }

    /// Commits everything that `next_batch` has returned so far. Durable when it returns.
    pub async fn commit(&mut self) -> Result<(), LogError> {
        match self {
            Self::Kafka(group) => group.commit().await,
            Self::Embedded(group) => group.commit().await,
        }
    }
}

/// A reader of everything, see [`EventLog::tail`]. Topics are added and removed while another task reads.
pub enum Tail {
    /// Of Apache Kafka.
    Kafka(kafka::KafkaTail),
    /// Of SQLite.
    Embedded(embedded::EmbeddedTail),
}

impl Tail {
    /// Adds a topic. When it returns, every record from `start` on will be seen. The topic must exist.
    ///
    /// Returns, per partition, the offset that the next appended record had at that moment: who has read up to
    /// there has caught up with what was on the log. Adding a topic twice changes nothing.
    pub async fn add(&self, topic: &Topic, start: Start) -> Result<Vec<(i32, i64)>, LogError> {
        let ahead = self.add_topic(topic, start).await?;
        Ok(ahead.into_iter().map(|Ahead { partition, end, .. }| (partition, end)).collect())
    }

    /// Adds a topic that is not on the tail yet, from the first record on that is not older than `timestamp_ms`
    /// (milliseconds since the epoch).
    ///
    /// Returns what is on the log already: the partitions that have such records, with the offset that the next
    /// appended record had at that moment. Who has read up to there has caught up.
    pub async fn add_since(&self, topic: &Topic, timestamp_ms: i64) -> Result<Vec<(i32, i64)>, LogError> {
        let ahead = self.add_topic(topic, Start::At(timestamp_ms)).await?;
        let past = ahead.into_iter().filter(|ahead| ahead.begin < ahead.end);
        Ok(past.map(|Ahead { partition, end, .. }| (partition, end)).collect())
    }

    async fn add_topic(&self, topic: &Topic, start: Start) -> Result<Vec<Ahead>, LogError> {
        match self {
            Self::Kafka(tail) => tail.add(topic, start).await,
            Self::Embedded(tail) => tail.add(topic, start).await,
        }
    }

    /// Removes a topic. A record of it that is already on its way may still be seen.
    pub fn remove(&self, topic: &Topic) {
        match self {
            Self::Kafka(tail) => tail.remove(topic),
            Self::Embedded(tail) => tail.remove(topic),
        }
    }

    /// Waits for records and returns between 1 and `max` of them. One task reads at a time. Safe to cancel.
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Record>, LogError> {
        match self {
            Self::Kafka(tail) => tail.next_batch(max).await,
            Self::Embedded(tail) => tail.next_batch(max).await,
        }
    }
}
