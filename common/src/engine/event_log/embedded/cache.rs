//! How many batches stay in memory, over all topics.

use std::{collections::VecDeque, sync::Arc};

use super::{format::Batch, topic::TopicLog};

/// Bytes of the newest batches that are kept in memory, over all topics.
const CACHE_BYTES: usize = 32 << 20;
/// What a batch costs beside its records.
const CACHE_OVERHEAD: usize = 128;

/// The batches that are kept in memory, oldest first.
#[derive(Default)]
pub(super) struct Cache {
    order: VecDeque<(Arc<TopicLog>, usize)>,
    bytes: usize,
}

impl Cache {
    /// A batch was added to a topic.
    pub(super) fn push(&mut self, topic: &Arc<TopicLog>, batch: &Batch) {
        let bytes = batch.records.len() + CACHE_OVERHEAD;
        self.bytes += bytes;
        self.order.push_back((Arc::clone(topic), bytes));
    }

    /// Lets the oldest batches go until the rest fits.
    pub(super) fn shrink(&mut self) {
        while self.bytes > CACHE_BYTES
            && let Some((topic, bytes)) = self.order.pop_front()
        {
            self.bytes -= bytes;
            topic.forget_oldest();
        }
    }
}
