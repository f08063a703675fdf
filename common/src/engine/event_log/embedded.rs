//! The log in SQLite, in this process.
#![expect(clippy::todo, clippy::unused_async, missing_docs, reason = "being written")]

use serde::{Deserialize, Serialize};

use super::{Delivery, LogError, NewRecord, Record, Start, Topic, TopicProfile};

/// Settings of the embedded log, section `embedded_log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedLogSettings {
    /// How many bytes of records may wait for the disk before producers wait.
    pub queue_bytes: usize,
}

#[derive(Clone)]
pub struct EmbeddedLog;
pub struct EmbeddedGroup;
pub struct EmbeddedTail;

impl EmbeddedLog {
    pub async fn open(
        _directory: &std::path::Path,
        _settings: &EmbeddedLogSettings,
        _clock: crate::clock::Clock,
    ) -> Result<Self, LogError> {
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
    pub fn group(&self, _group: &str) -> EmbeddedGroup {
        todo!()
    }
    pub fn tail(&self) -> EmbeddedTail {
        todo!()
    }
    pub async fn check(&self) -> Result<(), LogError> {
        todo!()
    }
    pub async fn flush(&self) {
        todo!()
    }
}
impl EmbeddedGroup {
    pub fn subscribe(&mut self, _topics: &[Topic]) {
        todo!()
    }
    pub async fn next_batch(&mut self, _max: usize) -> Result<Vec<Record>, LogError> {
        todo!()
    }
    pub async fn commit(&mut self) -> Result<(), LogError> {
        todo!()
    }
}
impl EmbeddedTail {
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
