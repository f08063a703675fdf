//! Which topic has something to delete next.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::topic::TopicLog;

/// When the oldest batch of each topic expires, and the topics that are being deleted.
#[derive(Default)]
pub(super) struct Retention {
    /// Ordered by time, so that a look costs the same however many topics there are.
    due: BTreeSet<(i64, i64)>,
    topics: HashMap<i64, Arc<TopicLog>>,
    deleted: VecDeque<i64>,
}

impl Retention {
    /// A batch of the topic was appended or found. Only the oldest one counts.
    pub(super) fn watch(&mut self, topic: &Arc<TopicLog>, max_ts: i64) {
        // A negative retention means for ever.
        if topic.retention_ms >= 0 && !self.topics.contains_key(&topic.number) {
            self.topics.insert(topic.number, Arc::clone(topic));
            self.due.insert((max_ts.saturating_add(topic.retention_ms), topic.number));
        }
    }

    /// The topic was deleted; its batches are to go.
    pub(super) fn deleted(&mut self, number: i64) {
        self.deleted.push_back(number);
    }

    /// A deleted topic that still has batches.
    pub(super) fn next_deleted(&self) -> Option<i64> {
        self.deleted.front().copied()
    }

    /// The last batch of the deleted topic that came first has gone.
    pub(super) fn forget_deleted(&mut self) {
        self.deleted.pop_front();
    }

    /// Takes at most so many topics whose oldest batch has expired. They are watched again only when
    /// [`Retention::watch`] says so.
    pub(super) fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<Arc<TopicLog>> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((expires_at, number)) = self.due.first().copied()
            && expires_at <= now_ms
        {
            self.due.pop_first();
            if let Some(topic) = self.topics.remove(&number).filter(|topic| !topic.is_deleted()) {
                taken.push(topic);
            }
        }
        taken
    }
}
