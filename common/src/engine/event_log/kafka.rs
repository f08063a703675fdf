//! The log on Apache Kafka.
#![expect(clippy::todo, clippy::unused_async, missing_docs, reason = "being written")]

use serde::{Deserialize, Serialize};

use super::{Delivery, LogError, NewRecord, Record, Start, Topic, TopicProfile};

/// Where Kafka is, section `kafka` of the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` list; empty for the embedded log.
    #[serde(default)]
    pub brokers: String,
}

#[derive(Clone)]
pub struct KafkaLog;
pub struct KafkaGroup;
pub struct KafkaTail;

impl KafkaLog {
    pub fn connect(_settings: &KafkaSettings) -> Result<Self, LogError> {
        todo!()
    }
    pub fn connect_with_queue(_settings: &KafkaSettings, _bytes: usize) -> Result<Self, LogError> {
        todo!()
    }
    pub async fn create_topic(&self, _topic: &Topic, _profile: TopicProfile) -> Result<(), LogError> {
        todo!()
    }
    pub async fn delete_topic(&self, _topic: &Topic) -> Result<(), LogError> {
        todo!()
    }
    pub async fn produce(&self, _record: NewRecord, _delivery: Delivery) {
        todo!()
    }
    pub fn group(&self, _group: &str) -> Result<KafkaGroup, LogError> {
        todo!()
    }
    pub fn tail(&self) -> Result<KafkaTail, LogError> {
        todo!()
    }
    pub async fn check(&self) -> Result<(), LogError> {
        todo!()
    }
    pub async fn flush(&self) {
        todo!()
    }
}
impl KafkaGroup {
    pub fn subscribe(&mut self, _topics: &[Topic]) -> Result<(), LogError> {
        todo!()
    }
    pub async fn next_batch(&mut self, _max: usize) -> Result<Vec<Record>, LogError> {
        todo!()
    }
    pub async fn commit(&mut self) -> Result<(), LogError> {
        todo!()
    }
}
impl KafkaTail {
    pub async fn add(&self, _topic: &Topic, _start: Start) -> Result<Vec<(i32, i64)>, LogError> {
        todo!()
    }
    pub fn remove(&self, _topic: &Topic) {
        todo!()
    }
    pub async fn next_batch(&self, _max: usize) -> Result<Vec<Record>, LogError> {
        todo!()
    }
}
