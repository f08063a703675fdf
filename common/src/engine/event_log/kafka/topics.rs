//! Creating and deleting topics.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    error::RDKafkaErrorCode,
};

use super::{KafkaLog, KafkaSettings, client_config, context::Quiet, is_unknown_topic, log_error};
use crate::{
    engine::event_log::{LogError, TopicProfile},
    wire::Topic,
};

pub(super) struct Topics {
    admin: AdminClient<Quiet>,
}

impl Topics {
    /// The largest batch a topic takes; one record with all that belongs to it must fit.
    const MAX_BATCH_BYTES: &'static str = "2097152";

    pub(super) fn start(settings: &KafkaSettings) -> Result<Self, LogError> {
        let admin = AdminClient::from_config_and_context(&client_config(settings), Quiet);
        Ok(Self { admin: admin.map_err(log_error)? })
    }

    pub(super) async fn create(&self, topic: &Topic, profile: TopicProfile) -> Result<(), LogError> {
        let retention = profile.retention_ms.to_string();
        // An acknowledged record has a second copy wherever there are enough brokers to spare one.
        let in_sync = (profile.replication - 1).max(1).to_string();
        let replication = TopicReplication::Fixed(profile.replication);
        let new = NewTopic::new(topic.as_str(), profile.partitions, replication)
            .set("retention.ms", &retention)
            .set("min.insync.replicas", &in_sync)
            .set("max.message.bytes", Self::MAX_BATCH_BYTES)
            // One clock per partition, whoever appends: reading from a time on relies on it.
            .set("message.timestamp.type", "LogAppendTime");
        let results = self.admin.create_topics([&new], &options()).await.map_err(log_error)?;
        verdict(results, |code| code == RDKafkaErrorCode::TopicAlreadyExists)
    }

    pub(super) async fn delete(&self, topic: &Topic) -> Result<(), LogError> {
        let results = self.admin.delete_topics(&[topic.as_str()], &options()).await.map_err(log_error)?;
        verdict(results, is_unknown_topic)
    }
}

fn options() -> AdminOptions {
    let timeout = Some(2 * KafkaLog::TIMEOUT);
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

fn verdict(
    results: Vec<Result<String, (String, RDKafkaErrorCode)>>,
    is_fine: impl Fn(RDKafkaErrorCode) -> bool,
) -> Result<(), LogError> {
    for result in results {
        match result {
            Err((_, code)) if is_fine(code) => {}
            Err((
                topic,
                code @ (RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::InvalidPartitions
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::TopicAuthorizationFailed),
            )) => return Err(LogError::Failed(format!("topic {topic}: {code}"))),
            Err((topic, code)) => return Err(LogError::Unavailable(format!("topic {topic}: {code}"))),
            Ok(_) => {}
        }
    }
    Ok(())
}
