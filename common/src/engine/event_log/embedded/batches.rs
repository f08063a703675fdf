//! From the records of one transaction to batches by topic.

use std::{collections::HashMap, sync::Arc};

use super::{
    format::{self, Batch},
    queue::Append,
    topic::TopicLog,
};
use crate::engine::event_log::{Delivery, LogError, Position};

/// Bytes after which a batch ends: readers load whole batches.
const BATCH_BYTES: usize = 256 << 10;

/// Records of one transaction, put together by topic.
#[derive(Default)]
pub(super) struct Batches {
    topics: Vec<Arc<TopicLog>>,
    /// With the index of the topic, in the order in which they are inserted.
    finished: Vec<(usize, Batch)>,
    open: Vec<Open>,
    by_number: HashMap<i64, usize>,
}

/// A batch that is being put together.
struct Open {
    base: i64,
    next: i64,
    records: Vec<u8>,
}

impl Batches {
    /// Gives every record its offset. Returns what is to be told when they are durable.
    pub(super) fn put_together(appends: Vec<Append>, timestamp_ms: i64) -> (Self, Vec<(Delivery, Position)>) {
        let mut batches = Self::default();
        let mut deliveries = Vec::with_capacity(appends.len());
        for append in appends {
            if let Some(offset) = batches.add(&append, timestamp_ms) {
                deliveries.push((append.delivery, Position { partition: 0, offset }));
            } else {
                let name = append.topic.topic.to_string();
                append.delivery.complete(Err(LogError::UnknownTopic(name)));
            }
        }
        for index in 0..batches.open.len() {
            batches.finish(index, timestamp_ms);
        }
        (batches, deliveries)
    }

    /// Adds a record. Returns its offset, or nothing when the topic was deleted in the meantime.
    fn add(&mut self, append: &Append, timestamp_ms: i64) -> Option<i64> {
        let index = match self.by_number.get(&append.topic.number) {
            Some(index) => *index,
            None if append.topic.is_deleted() => return None,
            None => self.open(&append.topic),
        };
        let open = &mut self.open[index];
        format::encode(&append.record, timestamp_ms, &mut open.records);
        let offset = open.next;
        open.next += 1;
        if open.records.len() >= BATCH_BYTES {
            self.finish(index, timestamp_ms);
        }
        Some(offset)
    }

    fn open(&mut self, topic: &Arc<TopicLog>) -> usize {
        let index = self.topics.len();
        let head = topic.head();
        self.topics.push(Arc::clone(topic));
        self.open.push(Open { base: head, next: head, records: Vec::new() });
        self.by_number.insert(topic.number, index);
        index
    }

    fn finish(&mut self, index: usize, timestamp_ms: i64) {
        let open = &mut self.open[index];
        if open.next > open.base {
            let records = std::mem::take(&mut open.records).into();
            let batch = Batch { base: open.base, last: open.next - 1, max_ts: timestamp_ms, records };
            open.base = open.next;
            self.finished.push((index, batch));
        }
    }

    /// The batches with the numbers of their topics.
    pub(super) fn rows(&self) -> Vec<(i64, Batch)> {
        self.finished.iter().map(|(index, batch)| (self.topics[*index].number, batch.clone())).collect()
    }

    /// The batches with their topics.
    pub(super) fn into_finished(self) -> impl Iterator<Item = (Arc<TopicLog>, Batch)> {
        let topics = self.topics;
        self.finished.into_iter().map(move |(index, batch)| (Arc::clone(&topics[index]), batch))
    }
}
