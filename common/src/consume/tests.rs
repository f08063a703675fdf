//! What consumers do with the log, seen from both sides.

use std::sync::{Arc, Mutex};

use axum::Router;
use sqlx::{Connection, SqliteConnection};
use tokio::time::Instant;

use super::*;
use crate::{
    engine::SqlEngine,
    http::client::Service,
    testing::{Neighbours, TestEngines, eventually, fresh_tenant},
};

const SERVICE: &str = "test";

/// Remembers the sizes of batches.
struct Counting(Arc<Mutex<Vec<usize>>>);

impl Handler for Counting {
    async fn handle(&mut self, batch: &[Record]) -> anyhow::Result<Vec<Malformed>> {
        self.0.lock().unwrap().push(batch.len());
        Ok(Vec::new())
    }

    fn purge(&self, _: Removal) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

/// A consumer of one tenant's readings.
struct Consumer {
    engines: TestEngines,
    topic: Topic,
    batches: Arc<Mutex<Vec<usize>>>,
    _neighbours: Neighbours,
}

impl Consumer {
    async fn start() -> Self {
        let engines = TestEngines::embedded().await;
        let neighbours =
            Neighbours::start(&engines.engines, &[Service::Auth, Service::DataBroker], Router::new()).await;
        let tenant = fresh_tenant();
        neighbours.add_tenant(&tenant);
        let topic = Topic::new(&tenant, &Subject::DEVICE_DATA);
        neighbours.create_topic(&topic).await;
        let batches = Arc::<Mutex<Vec<usize>>>::default();
        let what = Consumption { service: SERVICE, subjects: vec![Subject::DEVICE_DATA], max_batch: 1000 };
        let topics = Topics::new(engines.engines.client.clone(), SERVICE);
        start(&engines.engines, topics, what, Counting(Arc::clone(&batches)));
        let consumer = Self { engines, topic, batches, _neighbours: neighbours };
        consumer.append().await;
        consumer.handled(1).await;
        consumer
    }

    async fn append(&self) {
        let record = NewRecord {
            topic: self.topic.clone(),
            key: None,
            value: Bytes::from_static(b"{}"),
            headers: Headers::new(),
        };
        self.engines.engines.log.append(record).await.unwrap();
    }

    async fn handled(&self, count: usize) {
        let is_handled = async || (self.batches.lock().unwrap().iter().sum::<usize>() >= count).then_some(());
        eventually("the records are handled", is_handled).await;
    }

    /// The offset that the group goes on from after a crash.
    async fn committed(&self) -> Option<i64> {
        let SqlEngine::Sqlite(directory) = &self.engines.engines.sql else { panic!("not embedded") };
        let url = format!("sqlite://{}", directory.join("log.db").display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let next = sqlx::query_scalar("SELECT next_offset FROM commits WHERE group_name = ?1");
        next.bind(SERVICE).fetch_optional(&mut connection).await.unwrap()
    }
}

#[tokio::test]
async fn records_that_trickle_are_handled_some_at_a_time() {
    let consumer = Consumer::start().await;
    let began = Instant::now();
    let before = consumer.batches.lock().unwrap().len();
    // Each is durable before the next one is appended.
    for _ in 0..200 {
        consumer.append().await;
    }
    consumer.handled(201).await;
    let batches = consumer.batches.lock().unwrap().len() - before;
    let most = began.elapsed().as_millis() / Pace::READ_EVERY.as_millis() + 1;
    assert!(batches as u128 <= most, "{batches} batches, {most} at most");
}

#[tokio::test]
async fn what_was_handled_is_committed_also_when_nothing_follows() {
    let consumer = Consumer::start().await;
    eventually("the commit", async || (consumer.committed().await == Some(1)).then_some(())).await;
}

#[tokio::test]
async fn a_consumer_that_ends_commits_what_it_has_handled() {
    let consumer = Consumer::start().await;
    consumer.append().await;
    consumer.handled(2).await;
    consumer.engines.engines.shutdown.request();
    assert!(consumer.engines.engines.shutdown.drain(Duration::from_secs(20)).await);
    assert_eq!(consumer.committed().await, Some(2));
}
