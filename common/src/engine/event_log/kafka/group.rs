//! Groups: Kafka shares the partitions out and keeps the offsets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, warn};

use super::{
    KafkaLog, KafkaSettings, consumer_config,
    context::{self, Journal},
    is_unknown_topic, log_error, record,
};
use crate::{
    backoff::Backoff,
    engine::event_log::{LogError, Record},
    wire::Topic,
};

/// The offset after the last record that was handed out, by topic and partition, since the last commit.
type Offsets = HashMap<(Topic, i32), i64>;

/// Forgets what was handed out of partitions that are taken away: whoever has them now may have gone on, and must
/// not be set back.
#[derive(Default)]
pub(super) struct Member {
    journal: Journal,
    handed_out: Mutex<Offsets>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.journal.report(&error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => debug!(count = partitions.count(), "partitions come"),
            Rebalance::Revoke(partitions) => {
                debug!(count = partitions.count(), "partitions go");
                let mut handed_out = self.handed_out();
                for gone in partitions.elements() {
                    handed_out.retain(|(topic, partition), _| {
                        *partition != gone.partition() || topic.as_str() != gone.topic()
                    });
                }
            }
            Rebalance::Error(error) => warn!(%error, "the group cannot share its topics"),
        }
    }
}

impl Member {
    fn handed_out(&self) -> std::sync::MutexGuard<'_, Offsets> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of a group. Dropping it leaves the group.
pub struct KafkaGroup {
    /// Only dropping takes it out.
    consumer: Arc<StreamConsumer<Member>>,
    topics: HashMap<Box<str>, Topic>,
}

impl KafkaGroup {
    const COMMIT_ATTEMPTS: u32 = 5;

    pub(super) fn join(settings: &KafkaSettings, group: &str) -> Result<Self, LogError> {
        let mut config = consumer_config(settings, group);
        config
            // A member that comes or goes does not make the others stop.
            .set("partition.assignment.strategy", "cooperative-sticky")
            // How soon others take over after a crash.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            // A member may work at a batch this long, for example while its store is away.
            .set("max.poll.interval.ms", "300000")
            // How soon topics are found that did not exist when they were subscribed to.
            .set("topic.metadata.refresh.interval.ms", "5000");
        let consumer = StreamConsumer::from_config_and_context(&config, Member::default());
        Ok(Self { consumer: Arc::new(consumer.map_err(log_error)?), topics: HashMap::new() })
    }

    /// See [`GroupConsumer::subscribe`](crate::engine::event_log::GroupConsumer::subscribe).
    pub fn subscribe(&mut self, topics: &[Topic]) -> Result<(), LogError> {
        self.topics = topics.iter().map(|topic| (topic.as_str().into(), topic.clone())).collect();
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        if names.is_empty() {
            self.consumer.unsubscribe();
            return Ok(());
        }
        self.consumer.subscribe(&names).map_err(log_error)
    }

    /// See [`GroupConsumer::next_batch`](crate::engine::event_log::GroupConsumer::next_batch).
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        let (consumer, topics) = (&self.consumer, &self.topics);
        record::next_batch(consumer, max, |message| {
            // Records of a topic that was left may still be on their way.
            let topic = topics.get(message.topic())?;
            let position = (topic.clone(), message.partition());
            consumer.context().handed_out().insert(position, message.offset() + 1);
            Some(topic.clone())
        })
        .await
    }

    /// See [`GroupConsumer::commit`](crate::engine::event_log::GroupConsumer::commit).
    pub async fn commit(&mut self) -> Result<(), LogError> {
        let mut backoff = Backoff::up_to(KafkaLog::TIMEOUT / 5);
        let mut attempt = 1;
        loop {
            let offsets = self.consumer.context().handed_out().clone();
            if offsets.is_empty() {
                return Ok(());
            }
            match self.commit_offsets(&offsets).await? {
                Commit::Done => {
                    let mut handed_out = self.consumer.context().handed_out();
                    handed_out.retain(|position, next| offsets.get(position) != Some(next));
                    return Ok(());
                }
                // Kafka takes no commits for a moment while it shares out anew.
                Commit::Again(error) if attempt == Self::COMMIT_ATTEMPTS => return Err(error),
                Commit::Again(_) => {}
            }
            attempt += 1;
            backoff.wait().await;
        }
    }

    async fn commit_offsets(&self, offsets: &Offsets) -> Result<Commit, LogError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), next) in offsets {
            let added = list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(*next));
            added.map_err(log_error)?;
        }
        let consumer = Arc::clone(&self.consumer);
        let commit = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        match commit.await {
            Ok(Ok(())) => Ok(Commit::Done),
            Ok(Err(error)) => Commit::verdict(error),
            Err(error) => Err(LogError::Failed(error.to_string())),
        }
    }
}

enum Commit {
    Done,
    Again(LogError),
}

impl Commit {
    fn verdict(error: KafkaError) -> Result<Self, LogError> {
        match error.rdkafka_error_code() {
            // The offsets of the topics that do exist were committed.
            Some(code) if is_unknown_topic(code) => Ok(Self::Done),
            Some(RDKafkaErrorCode::NoOffset) => Ok(Self::Done),
            // The group has gone on without this member, which comes back when it reads on. What it has done is
            // done again by others.
            Some(
                RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::AssignmentLost,
            ) => {
                warn!(%error, "the group has taken the partitions away, their records come again elsewhere");
                Ok(Self::Done)
            }
            Some(
                RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable,
            ) => Ok(Self::Again(log_error(error))),
            _ => Err(log_error(error)),
        }
    }
}
