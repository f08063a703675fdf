//! The log on Apache Kafka.

mod context;
mod group;
mod producer;
mod record;
mod tail;
mod topics;

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::Producer as _,
};
use serde::{Deserialize, Serialize};

pub use self::{group::KafkaGroup, tail::KafkaTail};

use self::{producer::Producer, topics::Topics};
use super::{Delivery, LogError, NewRecord, TopicProfile};
use crate::wire::{Tenant, Topic};

/// Where Kafka is, section `kafka` of the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` list; empty for the embedded log.
    #[serde(default)]
    pub brokers: String,
}

impl KafkaSettings {
    /// Says what is wrong with the list, before anything waits for brokers that it does not name.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.brokers.is_empty() {
            return Ok(());
        }
        for broker in self.brokers.split(',') {
            let parts = broker.trim().rsplit_once(':');
            let is_good = parts.is_some_and(|(host, port)| {
                !host.is_empty()
                    && !host.contains(['/', '@', ' '])
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            anyhow::ensure!(
                is_good,
                "`{broker}` is no broker: each must look like host:port, without anything else"
            );
        }
        Ok(())
    }
}

/// The log on Kafka. Cheap to clone.
#[derive(Clone)]
pub struct KafkaLog {
    settings: Arc<KafkaSettings>,
    producer: Arc<Producer>,
    topics: Arc<Topics>,
}

impl KafkaLog {
    /// How many bytes of records may be on their way before producers wait.
    const QUEUE_BYTES: usize = 64 << 20;
    /// How long questions to the brokers may take.
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Starts clients, which connect by themselves as soon as a broker is there.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, LogError> {
        Self::connect_with_queue(settings, Self::QUEUE_BYTES)
    }

    /// Like [`KafkaLog::connect`], with another limit for what may be on its way.
    pub fn connect_with_queue(settings: &KafkaSettings, bytes: usize) -> Result<Self, LogError> {
        Ok(Self {
            settings: Arc::new(settings.clone()),
            producer: Arc::new(Producer::start(settings, bytes)?),
            topics: Arc::new(Topics::start(settings)?),
        })
    }

    /// See [`EventLog::create_topic`](super::EventLog::create_topic).
    pub async fn create_topic(&self, topic: &Topic, profile: TopicProfile) -> Result<(), LogError> {
        self.topics.create(topic, profile).await?;
        // The producer asks itself, so that it knows the topic when the first record comes.
        self.producer.until_known(topic, true).await
    }

    /// See [`EventLog::delete_topic`](super::EventLog::delete_topic).
    pub async fn delete_topic(&self, topic: &Topic) -> Result<(), LogError> {
        self.topics.delete(topic).await?;
        self.producer.until_known(topic, false).await
    }

    /// See [`EventLog::topics_of`](super::EventLog::topics_of).
    pub async fn topics_of(&self, tenant: &Tenant) -> Result<Vec<Topic>, LogError> {
        let producer = self.producer.current();
        // Kafka tells of one topic or of all.
        let metadata = blocking(move || producer.client().fetch_metadata(None, Self::TIMEOUT)).await?;
        // Kafka may be used by others too; what is no topic of ours is nobody's.
        let topics = metadata.topics().iter().filter_map(|topic| Topic::parse(topic.name()).ok());
        let mut found: Vec<Topic> = topics.filter(|topic| topic.tenant() == tenant).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// See [`EventLog::produce`](super::EventLog::produce).
    pub async fn produce(&self, record: NewRecord, delivery: Delivery) {
        self.producer.produce(record, delivery).await;
    }

    /// See [`EventLog::group`](super::EventLog::group).
    pub fn group(&self, group: &str) -> Result<KafkaGroup, LogError> {
        KafkaGroup::join(&self.settings, group)
    }

    /// See [`EventLog::tail`](super::EventLog::tail).
    pub fn tail(&self) -> Result<KafkaTail, LogError> {
        KafkaTail::start(&self.settings)
    }

    /// See [`EventLog::check`](super::EventLog::check).
    pub async fn check(&self) -> Result<(), LogError> {
        // Whether this topic exists does not matter; asking for none would ask for all.
        const ANY_TOPIC: &str = "__consumer_offsets";
        let producer = self.producer.current();
        let ask = move || producer.client().fetch_metadata(Some(ANY_TOPIC), Self::TIMEOUT).map(drop);
        blocking(ask).await
    }

    /// See [`EventLog::flush`](super::EventLog::flush).
    pub async fn flush(&self) {
        self.producer.flush().await;
    }
}

/// What all clients have in common.
fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", "tatami")
        // A broker that comes back is found within a second.
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("allow.auto.create.topics", "false");
    config
}

/// What all consumers have in common.
fn consumer_config(settings: &KafkaSettings, group: &str) -> ClientConfig {
    let mut config = client_config(settings);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        // New data ends a wait at once. A topic that is added has to wait for the end of the current one.
        .set("fetch.wait.max.ms", "100")
        // A full queue is looked at again soon, else every burst is followed by a pause of a second.
        .set("fetch.queue.backoff.ms", "20")
        // What is fetched ahead is memory, for every consumer of the process.
        .set("queued.max.messages.kbytes", "16384");
    config
}

/// Runs a call of librdkafka that waits for a broker.
async fn blocking<T, F>(call: F) -> Result<T, LogError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, KafkaError> + Send + 'static,
{
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result.map_err(log_error),
        Err(error) => Err(LogError::Failed(error.to_string())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn log_error(error: KafkaError) -> LogError {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::Nul(_) => LogError::Failed(error.to_string()),
        _ => LogError::Unavailable(error.to_string()),
    }
}

/// Whether Kafka says by this that a topic does not exist.
fn is_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicId
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_brokers_is_refused() {
        let validate = |brokers: &str| KafkaSettings { brokers: brokers.to_owned() }.validate();
        for brokers in ["", "kafka:9092", "127.0.0.1:9092, [::1]:9093,c:1"] {
            validate(brokers).unwrap();
        }
        for brokers in
            ["kafka", "kafka://h:9092", "a:9092,", ":9092", "a:0", "a:99999", "u@h:9092", "a b:9092"]
        {
            assert!(validate(brokers).is_err(), "{brokers}");
        }
    }
}
