//! One topic in memory: where it begins and ends, its newest batches, and who reads it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::{format::Batch, lock, reader::Interest};
use crate::wire::Topic;

/// A topic. Its number is never used again, so a topic that is deleted and created anew is another one.
pub(super) struct TopicLog {
    pub(super) number: i64,
    pub(super) topic: Topic,
    pub(super) retention_ms: i64,
    state: Mutex<State>,
}

struct State {
    /// Offset of the oldest record.
    start: i64,
    /// Offset of the next record to be appended. Everything before it is durable.
    head: i64,
    /// The newest batches without a gap, so that readers who keep up never ask SQLite.
    newest: VecDeque<Batch>,
    interests: Vec<Arc<Interest>>,
    deleted: bool,
}

/// Where the record at some offset is.
pub(super) enum Place {
    /// It does not exist yet.
    Ahead,
    /// In memory.
    InMemory(Batch),
    /// In SQLite, like everything up to the second offset; the first is the oldest that is left.
    Stored { from: i64, head: i64 },
}

impl TopicLog {
    pub(super) fn new(number: i64, topic: Topic, retention_ms: i64, start: i64, head: i64) -> Self {
        let state = State { start, head, newest: VecDeque::new(), interests: Vec::new(), deleted: false };
        Self { number, topic, retention_ms, state: Mutex::new(state) }
    }

    /// Offset of the next record to be appended.
    pub(super) fn head(&self) -> i64 {
        lock(&self.state).head
    }

    /// Offset of the oldest record.
    pub(super) fn start(&self) -> i64 {
        lock(&self.state).start
    }

    pub(super) fn is_deleted(&self) -> bool {
        lock(&self.state).deleted
    }

    /// Takes over a batch that is durable, and wakes the readers.
    pub(super) fn appended(&self, batch: Batch) {
        let mut state = lock(&self.state);
        state.head = batch.last + 1;
        state.newest.push_back(batch);
        for interest in &state.interests {
            Interest::wake(interest);
        }
    }

    /// Drops the oldest of the batches that are kept in memory.
    pub(super) fn forget_oldest(&self) {
        lock(&self.state).newest.pop_front();
    }

    /// Records before `start` are gone.
    pub(super) fn expired(&self, start: i64) {
        lock(&self.state).start = start;
    }

    /// The topic is gone. Its readers see nothing more of it.
    pub(super) fn deleted(&self) {
        let mut state = lock(&self.state);
        state.deleted = true;
        state.newest.clear();
        for interest in state.interests.drain(..) {
            interest.end();
        }
    }

    /// Where the record at `offset` is.
    pub(super) fn locate(&self, offset: i64) -> Place {
        let state = lock(&self.state);
        let offset = offset.max(state.start);
        if offset >= state.head {
            return Place::Ahead;
        }
        // The first batch that ends at the offset or later is the one, unless it begins later: then what is
        // asked for is older than what is kept.
        let index = state.newest.partition_point(|batch| batch.last < offset);
        match state.newest.get(index) {
            Some(batch) if batch.base <= offset => Place::InMemory(batch.clone()),
            _ => Place::Stored { from: offset, head: state.head },
        }
    }

    /// From now on `interest` is woken by appends. Returns the head at this moment, or nothing for a deleted topic.
    pub(super) fn register(&self, interest: &Arc<Interest>) -> Option<i64> {
        let mut state = lock(&self.state);
        if state.deleted {
            return None;
        }
        state.interests.push(Arc::clone(interest));
        interest.begin(state.head);
        Some(state.head)
    }

    pub(super) fn unregister(&self, interest: &Arc<Interest>) {
        interest.end();
        lock(&self.state).interests.retain(|other| !Arc::ptr_eq(other, interest));
    }
}
