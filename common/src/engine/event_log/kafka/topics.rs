//! Creating and deleting topics.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    error::RDKafkaErrorCode,
};
use tokio::sync::oneshot;

use super::{KafkaLog, KafkaSettings, client_config, context::Quiet, is_unknown_topic, log_error};
use crate::{
    engine::event_log::{LogError, TopicProfile},
    wire::Topic,
};

pub(super) struct Topics {
    admin: AdminClient<Quiet>,
    /// Topics that are to be created with the next request.
    waiting: Mutex<HashMap<Topic, Wanted>>,
    /// Held during a request.
    turn: tokio::sync::Mutex<()>,
}

struct Wanted {
    profile: TopicProfile,
    replies: Vec<oneshot::Sender<Result<(), LogError>>>,
}

impl Topics {
    /// The largest batch a topic takes; one record with all that belongs to it must fit.
    const MAX_BATCH_BYTES: &'static str = "2097152";

    pub(super) fn start(settings: &KafkaSettings) -> Result<Self, LogError> {
        let admin = AdminClient::from_config_and_context(&client_config(settings), Quiet::default())
            .map_err(log_error)?;
        Ok(Self { admin, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() })
    }

    /// Creates a topic, in one request with those that are wanted at the same time: Kafka takes about 30 ms for a
    /// request however many topics it names, and one request after the other.
    pub(super) async fn create(&self, topic: &Topic, profile: TopicProfile) -> Result<(), LogError> {
        loop {
            let mut reply = self.want(topic, profile);
            let turn = tokio::select! {
                biased;
                Ok(result) = &mut reply => return result,
                turn = self.turn.lock() => turn,
            };
            let wanted = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !wanted.is_empty() {
                self.request(wanted).await;
            }
            drop(turn);
            // Without a reply, the one who made the request went away in the middle of it.
            if let Ok(result) = reply.try_recv() {
                return result;
            }
        }
    }

    fn want(&self, topic: &Topic, profile: TopicProfile) -> oneshot::Receiver<Result<(), LogError>> {
        let (sender, reply) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = waiting.entry(topic.clone()).or_insert(Wanted { profile, replies: Vec::new() });
        wanted.replies.push(sender);
        reply
    }

    async fn request(&self, wanted: HashMap<Topic, Wanted>) {
        let settings: Vec<(&Topic, TopicProfile, String, String)> = wanted
            .iter()
            .map(|(topic, Wanted { profile, .. })| {
                // An acknowledged record has a second copy wherever there are enough brokers to spare one.
                let in_sync = (profile.replication - 1).max(1).to_string();
                (topic, *profile, profile.retention_ms.to_string(), in_sync)
            })
            .collect();
        let new: Vec<NewTopic<'_>> = settings
            .iter()
            .map(|(topic, profile, retention, in_sync)| {
                let replication = TopicReplication::Fixed(profile.replication);
                NewTopic::new(topic.as_str(), profile.partitions, replication)
                    .set("retention.ms", retention)
                    .set("min.insync.replicas", in_sync)
                    .set("max.message.bytes", Self::MAX_BATCH_BYTES)
                    // One clock per partition, whoever appends: reading from a time on relies on it.
                    .set("message.timestamp.type", "LogAppendTime")
            })
            .collect();
        let results = self.admin.create_topics(&new, &options()).await.map_err(log_error);
        for (topic, Wanted { replies, .. }) in wanted {
            let result =
                outcome(&results, topic.as_str(), |code| code == RDKafkaErrorCode::TopicAlreadyExists);
            for reply in replies {
                // Whoever asked may have gone away.
                let _ = reply.send(result.clone());
            }
        }
    }

    pub(super) async fn delete(&self, topic: &Topic) -> Result<(), LogError> {
        let results = self.admin.delete_topics(&[topic.as_str()], &options()).await.map_err(log_error);
        outcome(&results, topic.as_str(), is_unknown_topic)
    }
}

fn options() -> AdminOptions {
    let timeout = Some(2 * KafkaLog::TIMEOUT);
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

type Results = Result<Vec<Result<String, (String, RDKafkaErrorCode)>>, LogError>;

/// What became of one topic.
fn outcome(results: &Results, topic: &str, is_fine: fn(RDKafkaErrorCode) -> bool) -> Result<(), LogError> {
    let failures = results.as_ref().map_err(Clone::clone)?.iter().filter_map(|result| result.as_ref().err());
    match failures.into_iter().find(|(name, _)| name == topic) {
        Some((_, code)) if !is_fine(*code) => {
            let reason = format!("topic {topic}: {code}");
            Err(if is_final(*code) { LogError::Failed(reason) } else { LogError::Unavailable(reason) })
        }
        _ => Ok(()),
    }
}

/// Whether trying again cannot help.
fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}
