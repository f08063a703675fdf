//! Tails: partitions are assigned by hand, nothing is committed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::warn;

use super::{KafkaLog, KafkaSettings, blocking, consumer_config, context::Quiet, log_error, record};
use crate::{
    backoff::Backoff,
    engine::event_log::{Ahead, LogError, Record, Start},
    wire::Topic,
};

type Client = StreamConsumer<Quiet>;

/// Topics by name, with the numbers of their partitions.
type Assigned = HashMap<Box<str>, (Topic, Vec<i32>)>;

/// A reader of everything.
pub struct KafkaTail {
    /// None only while it is dropped.
    consumer: Option<Arc<Client>>,
    topics: Mutex<Assigned>,
}

impl KafkaTail {
    /// Kafka's client wants a group even where nothing is shared or committed.
    const GROUP: &'static str = "tatami-tail";

    pub(super) fn start(settings: &KafkaSettings) -> Result<Self, LogError> {
        let config = consumer_config(settings, Self::GROUP);
        let consumer =
            StreamConsumer::from_config_and_context(&config, Quiet::default()).map_err(log_error)?;
        Ok(Self { consumer: Some(Arc::new(consumer)), topics: Mutex::default() })
    }

    /// See [`Tail::add`](crate::engine::event_log::Tail::add).
    pub(in crate::engine::event_log) async fn add(
        &self,
        topic: &Topic,
        start: Start,
    ) -> Result<Vec<Ahead>, LogError> {
        let Some(ahead) = self.ahead(topic, start).await? else {
            return Err(LogError::UnknownTopic(topic.to_string()));
        };
        let mut topics = self.topics();
        if !topics.contains_key(topic.as_str()) {
            let partitions = ahead.iter().map(|ahead| ahead.partition).collect();
            self.consumer()?
                .incremental_assign(&list(topic, &ahead).map_err(log_error)?)
                .map_err(log_error)?;
            topics.insert(topic.as_str().into(), (topic.clone(), partitions));
        }
        Ok(ahead)
    }

    /// Asks until the partitions have leaders, which those of a new topic are without for a moment.
    async fn ahead(&self, topic: &Topic, start: Start) -> Result<Option<Vec<Ahead>>, LogError> {
        let deadline = Instant::now() + KafkaLog::TIMEOUT;
        let mut backoff = Backoff::up_to(KafkaLog::TIMEOUT / 25);
        loop {
            let (consumer, name) = (Arc::clone(self.consumer()?), topic.clone());
            match blocking(move || Ok(ahead(&consumer, name.as_str(), start))).await? {
                Err(error) if has_no_leader(&error) && Instant::now() < deadline => backoff.wait().await,
                found => return found.map_err(log_error),
            }
        }
    }

    /// See [`Tail::remove`](crate::engine::event_log::Tail::remove).
    pub fn remove(&self, topic: &Topic) {
        let mut topics = self.topics();
        let Some((topic, partitions)) = topics.remove(topic.as_str()) else { return };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(topic.as_str(), partition);
        }
        if let Ok(consumer) = self.consumer()
            && let Err(error) = consumer.incremental_unassign(&list)
        {
            // Its records are left out all the same.
            warn!(%topic, %error, "a topic cannot be removed from a tail");
        }
    }

    /// See [`Tail::next_batch`](crate::engine::event_log::Tail::next_batch).
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Record>, LogError> {
        record::next_batch(self.consumer()?, max, |message| {
            self.topics().get(message.topic()).map(|(topic, _)| topic.clone())
        })
        .await
    }

    fn topics(&self) -> MutexGuard<'_, Assigned> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consumer(&self) -> Result<&Arc<Client>, LogError> {
        self.consumer.as_ref().ok_or_else(|| LogError::Failed("the tail has ended".to_owned()))
    }
}

impl Drop for KafkaTail {
    fn drop(&mut self) {
        // Dropping waits for librdkafka's threads, and nobody else waits for the tail.
        let consumer = self.consumer.take();
        std::thread::spawn(move || drop(consumer));
    }
}

fn has_no_leader(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable))
}

/// Nothing if the topic does not exist.
fn ahead(consumer: &Client, topic: &str, start: Start) -> Result<Option<Vec<Ahead>>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), KafkaLog::TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|it| it.name() == topic && !it.partitions().is_empty())
    else {
        return Ok(None);
    };
    let ask = |about: Offset| {
        let mut list = TopicPartitionList::with_capacity(found.partitions().len());
        for partition in found.partitions() {
            list.add_partition_offset(topic, partition.id(), about)?;
        }
        consumer.offsets_for_times(list, KafkaLog::TIMEOUT)
    };
    // The end is asked for first: what is appended between the questions is read rather than missed.
    let mut all = Vec::new();
    for element in ask(Offset::End)?.elements() {
        element.error()?;
        let end = element.offset().to_raw().unwrap_or_default();
        all.push(Ahead { partition: element.partition(), begin: end, end });
    }
    let Start::At(timestamp_ms) = start else { return Ok(Some(all)) };
    for element in ask(Offset::Offset(timestamp_ms.max(0)))?.elements() {
        element.error()?;
        // Any other answer means that no record is as new.
        if let Offset::Offset(offset) = element.offset()
            && let Some(ahead) = all.iter_mut().find(|ahead| ahead.partition == element.partition())
        {
            ahead.begin = offset;
        }
    }
    Ok(Some(all))
}

fn list(topic: &Topic, all: &[Ahead]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(all.len());
    for Ahead { partition, begin, .. } in all {
        list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(*begin))?;
    }
    Ok(list)
}
