//! One suite for both engines: what the rest of the platform relies on.
//!
//! A test is a function of a [`Subject`]; `on_both!` runs it against SQLite and against Apache Kafka.

mod append;
mod crash;
mod groups;
mod load;
mod tails;
mod topics;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;

use super::{
    Delivery, DeliverySink, EmbeddedLog, EmbeddedLogSettings, EventLog, GroupConsumer, Headers, KafkaLog,
    KafkaSettings, LogError, NewRecord, Position, Record, Tail, TopicProfile,
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    shutdown::Shutdown,
    testing::{eventually, fresh_tenant, real_engine},
    wire::{Subject as Name, Tenant, Topic},
};

/// Makes a test of each function, for each engine.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Subject::embedded().await).await;
            })+
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Subject::kafka()).await;
            })+
        }
    };
}
use on_both;

/// Long enough for a loaded machine; nothing waits that long when all is well.
const PATIENCE: Duration = Duration::from_mins(1);

/// A log under test, with a tenant of its own.
struct Subject {
    log: EventLog,
    tenant: Tenant,
    clock: Clock,
    /// Where the embedded log is.
    directory: Option<Arc<TempDir>>,
    tasks: Shutdown,
}

impl Subject {
    const QUEUE_BYTES: usize = 32 << 20;

    async fn embedded() -> Self {
        Self::embedded_with(Self::QUEUE_BYTES, Clock::system()).await
    }

    async fn embedded_with(queue_bytes: usize, clock: Clock) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let log = open(&directory, queue_bytes, &clock).await;
        Self { log, tenant: fresh_tenant(), clock, directory: Some(directory), tasks: Shutdown::default() }
    }

    fn kafka() -> Self {
        Self {
            log: connect(),
            tenant: fresh_tenant(),
            clock: Clock::system(),
            directory: None,
            tasks: Shutdown::default(),
        }
    }

    /// The same data after a restart of the process.
    async fn restarted(self) -> Self {
        drop(self.log);
        let log = match &self.directory {
            Some(directory) => open(directory, Self::QUEUE_BYTES, &self.clock).await,
            None => connect(),
        };
        Self { log, ..self }
    }

    fn engine(&self) -> &'static str {
        if self.directory.is_some() { "embedded" } else { "kafka" }
    }

    fn topic(&self, subject: &str) -> Topic {
        Topic::new(&self.tenant, &Name::parse(subject).unwrap())
    }

    async fn created(&self, subject: &str) -> Topic {
        self.created_with(subject, 1).await
    }

    async fn created_with(&self, subject: &str, partitions: i32) -> Topic {
        let topic = self.topic(subject);
        let profile = TopicProfile { partitions, replication: 1, retention_ms: 3_600_000 };
        self.log.create_topic(&topic, profile).await.unwrap();
        topic
    }

    async fn append(&self, topic: &Topic, value: &str) -> Position {
        self.log.append(record(topic, value)).await.unwrap()
    }

    /// Appends `{from}` to `{to - 1}`.
    async fn append_numbers(&self, topic: &Topic, numbers: std::ops::Range<u64>) {
        let tally = Tally::new();
        let expected = numbers.end - numbers.start;
        for number in numbers {
            self.log.produce(record(topic, &number.to_string()), tally.delivery(number)).await;
        }
        tally.all_delivered(expected).await;
    }

    fn group(&self, name: &str, topics: &[Topic]) -> GroupConsumer {
        // Kafka's groups belong to the whole cluster, not to the tenant of this test.
        let mut group = self.log.group(&format!("{}-{name}", self.tenant)).unwrap();
        group.subscribe(topics).unwrap();
        group
    }
}

async fn open(directory: &TempDir, queue_bytes: usize, clock: &Clock) -> EventLog {
    let settings = EmbeddedLogSettings { queue_bytes };
    let every = Duration::from_millis(100);
    let log = EmbeddedLog::open_cleaned_every(every, directory.path(), &settings, clock.clone()).await;
    EventLog::Embedded(log.unwrap())
}

fn connect() -> EventLog {
    let settings = KafkaSettings { brokers: real_engine("KAFKA") };
    EventLog::Kafka(KafkaLog::connect(&settings).unwrap())
}

fn record(topic: &Topic, value: &str) -> NewRecord {
    NewRecord {
        topic: topic.clone(),
        key: Some(Bytes::from_static(b"key")),
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: Headers::new(),
    }
}

fn text(record: &Record) -> &str {
    std::str::from_utf8(&record.value).unwrap()
}

fn number(record: &Record) -> u64 {
    text(record).parse().unwrap()
}

/// Reads exactly so many records.
async fn read(group: &mut GroupConsumer, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = tokio::time::timeout(PATIENCE, group.next_batch(count - records.len())).await;
        let batch = batch.unwrap_or_else(|_| panic!("only {} of {count} records came", records.len()));
        records.extend(batch.unwrap());
    }
    records
}

/// Reads exactly so many records.
async fn read_tail(tail: &Tail, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = tokio::time::timeout(PATIENCE, tail.next_batch(count - records.len())).await;
        let batch = batch.unwrap_or_else(|_| panic!("only {} of {count} records came", records.len()));
        records.extend(batch.unwrap());
    }
    records
}

fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(number).collect()
}

/// Counts deliveries.
struct Tally {
    delivered: AtomicU64,
    failures: Mutex<Vec<LogError>>,
    changed: tokio::sync::Notify,
}

impl Tally {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            delivered: AtomicU64::new(0),
            failures: Mutex::default(),
            changed: tokio::sync::Notify::new(),
        })
    }

    fn delivery(self: &Arc<Self>, token: u64) -> Delivery {
        Delivery::new(Arc::clone(self) as Arc<dyn DeliverySink>, token)
    }

    fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    async fn all_delivered(&self, expected: u64) {
        let wait = async {
            while self.delivered() < expected {
                let failures = self.failures.lock().unwrap().clone();
                assert!(failures.is_empty(), "{failures:?}");
                self.changed.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "only {} of {expected} records were delivered", self.delivered());
    }
}

impl DeliverySink for Tally {
    fn delivered(&self, _: u64, result: Result<Position, LogError>) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => self.failures.lock().unwrap().push(error),
        }
        self.changed.notify_one();
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    eventually(what, || async { condition().then_some(()) }).await;
}

/// Nothing comes for a while. This cannot be waited for otherwise.
async fn nothing_comes(tail: &Tail) -> bool {
    tokio::time::timeout(Duration::from_millis(500), tail.next_batch(1)).await.is_err()
}

async fn a_moment() {
    Backoff::default().wait().await;
}
