//! Reading: who is interested in which topic, and from where.
//!
//! A reader keeps a list of the topics that have something for it. An append puts its topic on the lists of the
//! topic's readers, so the cost of a message never depends on the number of topics, and nobody polls.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    format::{Batch, Decoder},
    lock,
    store::Store,
    topic::{Place, TopicLog},
};
use crate::engine::event_log::{LogError, Record};

/// Topics that have something for one reader.
#[derive(Default)]
pub(super) struct Ready {
    interests: Mutex<VecDeque<Arc<Interest>>>,
    filled: Notify,
}

/// One reader's place in one topic.
pub(super) struct Interest {
    pub(super) topic: Arc<TopicLog>,
    reader: Arc<Ready>,
    /// Whether it is on the reader's list.
    listed: AtomicBool,
    /// Whether the reader has lost the topic.
    ended: AtomicBool,
    cursor: Mutex<Cursor>,
}

/// Where an interest begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    Offset(i64),
    Head,
}

struct Cursor {
    /// Offset of the next record to be returned; unknown until the interest begins at the head.
    next: Option<i64>,
    /// Batches at hand, the first of which is being read.
    batches: VecDeque<Decoder>,
}

/// What became of an attempt to read from memory.
enum Outcome {
    /// Everything there is was read.
    CaughtUp,
    /// There is more, but enough was read.
    Full,
    /// What comes next must be loaded from SQLite.
    Load { from: i64, head: i64 },
}

/// Records that are being collected, with limits.
struct Collection<'a> {
    records: Vec<Record>,
    bytes: usize,
    max: usize,
    /// Interests that records came from.
    read: &'a mut Vec<Arc<Interest>>,
}

impl Collection<'_> {
    /// A batch of the largest records must not fill the memory.
    const MAX_BYTES: usize = 8 << 20;

    fn is_full(&self) -> bool {
        self.records.len() >= self.max || self.bytes >= Self::MAX_BYTES
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.value.len();
        self.records.push(record);
    }
}

impl Ready {
    /// Waits for records and returns between 1 and `max` of them. Adds to `read` where they came from.
    ///
    /// Safe to cancel: nothing is taken before the last wait is over.
    pub(super) async fn next_batch(
        &self,
        store: &Store,
        max: usize,
        read: &mut Vec<Arc<Interest>>,
    ) -> Result<Vec<Record>, LogError> {
        loop {
            let mut collection =
                Collection { records: Vec::new(), bytes: 0, max: max.max(1), read: &mut *read };
            let load = self.collect(&mut collection)?;
            if !collection.records.is_empty() {
                return Ok(collection.records);
            }
            match load {
                Some((interest, from, head)) => {
                    let batches = store.read(interest.topic.number, from).await?;
                    interest.loaded(batches, from, head);
                }
                None => self.filled.notified().await,
            }
        }
    }

    /// Reads what is in memory. Returns what must be loaded from SQLite when there was nothing.
    fn collect(
        &self,
        collection: &mut Collection<'_>,
    ) -> Result<Option<(Arc<Interest>, i64, i64)>, LogError> {
        // Bound before the match, or the list stays locked while it is worked on.
        while let Some(interest) = { lock(&self.interests).pop_front() } {
            let before = collection.records.len();
            let outcome = interest.read(collection);
            if collection.records.len() > before {
                collection.read.push(Arc::clone(&interest));
            }
            match outcome {
                Ok(Outcome::CaughtUp) => interest.unlist(),
                // To the end of the list, so that a busy topic does not keep the others waiting.
                Ok(Outcome::Full) => {
                    lock(&self.interests).push_back(interest);
                    return Ok(None);
                }
                Ok(Outcome::Load { .. }) if !collection.records.is_empty() => {
                    lock(&self.interests).push_front(interest);
                    return Ok(None);
                }
                Ok(Outcome::Load { from, head }) => {
                    lock(&self.interests).push_front(Arc::clone(&interest));
                    return Ok(Some((interest, from, head)));
                }
                Err(error) => {
                    // Other topics go on.
                    lock(&self.interests).push_back(interest);
                    return if collection.records.is_empty() { Err(error) } else { Ok(None) };
                }
            }
        }
        Ok(None)
    }

    /// The reader is gone.
    pub(super) fn clear(&self) {
        lock(&self.interests).clear();
    }
}

impl Interest {
    pub(super) fn new(topic: &Arc<TopicLog>, reader: &Arc<Ready>, from: From) -> Arc<Self> {
        let next = match from {
            From::Offset(offset) => Some(offset),
            From::Head => None,
        };
        Arc::new(Self {
            topic: Arc::clone(topic),
            reader: Arc::clone(reader),
            listed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            cursor: Mutex::new(Cursor { next, batches: VecDeque::new() }),
        })
    }

    /// The topic took it in while its head was at `head`.
    pub(super) fn begin(self: &Arc<Self>, head: i64) {
        let next = *lock(&self.cursor).next.get_or_insert(head);
        if next < head {
            Self::wake(self);
        }
    }

    /// Puts it on the reader's list, if it is not there already.
    pub(super) fn wake(this: &Arc<Self>) {
        if !this.listed.swap(true, Ordering::AcqRel) {
            lock(&this.reader.interests).push_back(Arc::clone(this));
            this.reader.filled.notify_one();
        }
    }

    /// The reader has lost the topic.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Offset after the last record that was returned.
    pub(super) fn next_offset(&self) -> i64 {
        lock(&self.cursor).next.unwrap_or_default()
    }

    /// The reader has caught up; a record that came in the meantime puts it on the list again.
    fn unlist(self: &Arc<Self>) {
        self.listed.store(false, Ordering::Release);
        if !self.ended.load(Ordering::Acquire)
            && !matches!(self.topic.locate(self.next_offset()), Place::Ahead)
        {
            Self::wake(self);
        }
    }

    fn read(&self, collection: &mut Collection<'_>) -> Result<Outcome, LogError> {
        let mut cursor = lock(&self.cursor);
        loop {
            if self.ended.load(Ordering::Acquire) {
                return Ok(Outcome::CaughtUp);
            }
            if collection.is_full() {
                return Ok(Outcome::Full);
            }
            let next = cursor.next.unwrap_or_default();
            if let Some(batch) = cursor.batches.front_mut() {
                batch.skip_to(next)?;
                while !batch.is_empty() && !collection.is_full() {
                    collection.push(batch.read(&self.topic.topic)?);
                }
                let (next, is_empty) = (batch.next_offset(), batch.is_empty());
                cursor.next = Some(next);
                if is_empty {
                    cursor.batches.pop_front();
                }
                continue;
            }
            match self.topic.locate(next) {
                Place::Ahead => return Ok(Outcome::CaughtUp),
                Place::InMemory(batch) => {
                    cursor.next = Some(next.max(batch.base));
                    cursor.batches.push_back(Decoder::new(batch));
                }
                Place::Stored { from, head } => return Ok(Outcome::Load { from, head }),
            }
        }
    }

    /// Takes over what was loaded; nothing means that everything before `head` has expired.
    fn loaded(&self, batches: Vec<Batch>, from: i64, head: i64) {
        let mut cursor = lock(&self.cursor);
        let oldest = batches.first().map_or(head, |batch| batch.base);
        cursor.next = Some(from.max(oldest));
        cursor.batches.extend(batches.into_iter().map(Decoder::new));
    }
}
