//! Tails: readers that see everything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{
    EmbeddedLog, lock,
    reader::{From, Interest, Ready},
    topic::TopicLog,
};
use crate::{
    engine::event_log::{Ahead, LogError, Record, Start},
    wire::Topic,
};

/// A reader of everything.
pub struct EmbeddedTail {
    log: EmbeddedLog,
    ready: Arc<Ready>,
    interests: Mutex<HashMap<Topic, Arc<Interest>>>,
}

impl EmbeddedTail {
    pub(super) fn new(log: EmbeddedLog) -> Self {
        Self { log, ready: Arc::default(), interests: Mutex::default() }
    }

    /// See [`Tail::add`](crate::engine::event_log::Tail::add).
    pub(in crate::engine::event_log) async fn add(
        &self,
        topic: &Topic,
        start: Start,
    ) -> Result<Vec<Ahead>, LogError> {
        let shared = self.log.shared();
        let unknown = || LogError::UnknownTopic(topic.to_string());
        let log = shared.topic(topic).ok_or_else(unknown)?;
        let ahead =
            |begin: Option<i64>, head| vec![Ahead { partition: 0, begin: begin.unwrap_or(head), end: head }];
        let begin = match start {
            Start::At(timestamp_ms) if !self.has(&log) => {
                let (start, head) = (log.start(), log.head());
                Some(shared.store.offset_at(log.number, start, head, timestamp_ms).await?)
            }
            Start::End | Start::At(_) => None,
        };
        let mut interests = lock(&self.interests);
        if interests.get(topic).is_some_and(|present| present.topic.number == log.number) {
            return Ok(ahead(None, log.head()));
        }
        let interest = Interest::new(&log, &self.ready, begin.map_or(From::Head, From::Offset));
        let head = log.register(&interest).ok_or_else(unknown)?;
        interests.insert(topic.clone(), interest);
        Ok(ahead(begin, head))
    }

    /// See [`Tail::remove`](crate::engine::event_log::Tail::remove).
    pub fn remove(&self, topic: &Topic) {
        if let Some(interest) = lock(&self.interests).remove(topic) {
            interest.topic.unregister(&interest);
        }
    }

    /// See [`Tail::next_batch`](crate::engine::event_log::Tail::next_batch).
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Record>, LogError> {
        self.ready.next_batch(&self.log.shared().store, max, &mut Vec::new()).await
    }

    fn has(&self, log: &TopicLog) -> bool {
        lock(&self.interests).get(&log.topic).is_some_and(|present| present.topic.number == log.number)
    }
}

impl Drop for EmbeddedTail {
    fn drop(&mut self) {
        for (_, interest) in lock(&self.interests).drain() {
            interest.topic.unregister(&interest);
        }
        self.ready.clear();
    }
}
