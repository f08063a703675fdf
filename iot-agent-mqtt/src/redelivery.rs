//! Is a publish that a client sends again already on the log?
//!
//! A client that did not see the acknowledgement of a QoS 1 or 2 publish sends it again, marked as a duplicate
//! (DUP=1), after it has connected again. The record may or may not be on the log. Two rules, in this order:
//!
//! 1. **Nothing is lost.** A publish is acknowledged without being produced only if it was found on the log. Every
//!    doubt is answered by producing it.
//! 2. **Nothing is stored twice**, as far as the first rule allows.
//!
//! It is looked for in two places:
//!
//! - **In memory.** The client's last connection, if it was to this process, left behind what it has put on the log
//!   ([`Recent`](crate::domain::recent::Recent)); records that were still on their way are waited for before the new
//!   connection is accepted. Found there means: on the log. *Not* found there means nothing: the client may have
//!   been connected to another instance in between.
//! - **On the log.** Every record that may be sent again carries its [`Origin`] in a header. An [`Index`] of the
//!   origins of the last minute is built for a tenant when it is first needed, kept up to date while it is used, and
//!   dropped when nobody has asked for some minutes; connections hold it weakly, however long they live. All indexes
//!   together have a limit, and the largest gives way first. A find counts only if the record's key, which names the device,
//!   is the same: client ids of other devices mean nothing here.
//!
//! What was found more than once proves nothing (the client repeats packet ids with equal payloads), so it is
//! produced. What remains: a publish that equals exactly one earlier publish of the same client in packet id and
//! payload, within a minute or the last 128, that never arrived and is sent again, is taken for the earlier one; and
//! a record that another instance has accepted and not yet written when it is looked for is written twice.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{
        EventLog,
        event_log::{LogError, Record, Start, Tail},
    },
    wire::{Topic, header},
};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    control::add,
    domain::recent::{Found, Origin},
};

/// Finds publishes on the log. One tail serves the indexes of all tenants.
pub(crate) struct Redelivery {
    tail: Tail,
    clock: Clock,
    window_ms: i64,
    indexes: Mutex<HashMap<Topic, Arc<Index>>>,
    held: Held,
}

/// Marks of all indexes of the process.
type Held = Arc<AtomicUsize>;

impl Redelivery {
    /// How long an index stays after it was last asked for.
    const KEEP_MS: i64 = 3 * 60_000;
    /// Most marks of all indexes together, about 40 MB.
    const MOST: usize = 500_000;

    pub(crate) fn new(log: &EventLog, clock: Clock, window_seconds: u32) -> Result<Self, LogError> {
        let window_ms = i64::from(window_seconds) * 1000;
        Ok(Self { tail: log.tail()?, clock, window_ms, indexes: Mutex::default(), held: Held::default() })
    }

    fn indexes(&self) -> MutexGuard<'_, HashMap<Topic, Arc<Index>>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of a topic, read up to what is on the log now. Callers set the time-out.
    pub(crate) async fn index(&self, topic: &Topic) -> Result<Lookup, LogError> {
        let index = self.get_or_begin(topic);
        let ends = add(&self.tail, topic, || Start::At(self.clock.now_ms() - self.window_ms)).await?;
        index.caught_up(&ends).await;
        Ok(Lookup(Arc::downgrade(&index)))
    }

    fn get_or_begin(&self, topic: &Topic) -> Arc<Index> {
        let mut indexes = self.indexes();
        let index = indexes.entry(topic.clone()).or_insert_with(|| {
            info!(%topic, "a publish was sent again, looking at the recent log");
            Arc::new(Index::new(&self.held))
        });
        index.used_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        Arc::clone(index)
    }

    /// Reads for ever.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.tail.next_batch(1000).await {
                Ok(batch) => {
                    backoff.reset();
                    // Records of one topic come in runs.
                    for run in batch.chunk_by(|one, next| one.topic == next.topic) {
                        let index = run.first().and_then(|record| self.indexes().get(&record.topic).cloned());
                        if let Some(index) = index {
                            index.seen().take(run, self.keep_ms());
                            index.news.notify_waiters();
                        }
                    }
                    self.make_room(Self::MOST);
                }
                Err(error) => {
                    warn!(%error, "the recent log cannot be read");
                    backoff.wait().await;
                }
            }
        }
    }

    /// A connection asks for what was on the log when it began; it may need a moment for all its questions.
    fn keep_ms(&self) -> i64 {
        self.window_ms + 30_000
    }

    /// Forgets old marks while there are more than `most`; what they stood for is produced again when it is sent
    /// again.
    fn make_room(&self, most: usize) {
        while self.held.load(Ordering::Relaxed) > most {
            let indexes: Vec<Arc<Index>> = self.indexes().values().cloned().collect();
            // A silent tenant may have the most: who happens to be read must not pay for it.
            let Some(largest) = indexes.iter().max_by_key(|index| index.seen().order.len()) else { return };
            // What is left is an index that was dropped a moment ago and is still being read.
            if !largest.seen().forget_oldest_quarter() {
                return;
            }
        }
    }

    /// Drops indexes that nobody has asked for some minutes, and what is too old in the others.
    pub(crate) fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        let keep_ms = self.keep_ms();
        self.indexes().retain(|topic, index| {
            let used = now_ms - index.used_ms.load(Ordering::Relaxed) < Self::KEEP_MS;
            if used {
                index.seen().forget_before(now_ms - keep_ms);
            } else {
                self.tail.remove(topic);
            }
            used
        });
    }
}

/// A connection's view of an index. It does not keep the index.
#[derive(Clone, Default)]
pub(crate) struct Lookup(Weak<Index>);

impl Lookup {
    /// How often a publish of a device was found, or nothing if there is no index or it was dropped in the meantime.
    pub(crate) fn find(&self, origin: Origin, key: &[u8]) -> Option<Found> {
        self.0.upgrade().map(|index| index.find(origin, key))
    }
}

/// The origins of a topic's recent records.
struct Index {
    seen: Mutex<Seen>,
    news: Notify,
    used_ms: AtomicI64,
}

/// Origin and hashed key of a record.
type Mark = (Origin, u64);

struct Seen {
    held: Held,
    marks: HashMap<Mark, u32>,
    /// When each was appended, oldest first.
    order: VecDeque<(i64, Mark)>,
    /// Offset of the next record, per partition.
    positions: HashMap<i32, i64>,
}

fn mark(origin: Origin, key: &[u8]) -> Mark {
    let mut hash = DefaultHasher::new();
    key.hash(&mut hash);
    (origin, hash.finish())
}

impl Index {
    /// How long a partition may say nothing at first until it is believed to have nothing to say: the log does not
    /// tell where it began to read.
    const QUIET: Duration = Duration::from_millis(1500);

    fn new(held: &Held) -> Self {
        let seen = Mutex::new(Seen::new(Arc::clone(held)));
        Self { seen, news: Notify::new(), used_ms: AtomicI64::new(0) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, origin: Origin, key: &[u8]) -> Found {
        let count = self.seen().marks.get(&mark(origin, key)).copied();
        Found::times(count.unwrap_or(0) as usize)
    }

    /// Waits until everything before `ends` was read.
    async fn caught_up(&self, ends: &[(i32, i64)]) {
        let silent_from = tokio::time::Instant::now() + Self::QUIET;
        loop {
            let news = self.news.notified();
            if self.seen().has_read(ends) {
                return;
            }
            if tokio::time::timeout_at(silent_from, news).await.is_err() {
                self.seen().skip_to(ends);
                break;
            }
        }
        // What is left has been read in part.
        loop {
            let news = self.news.notified();
            if self.seen().has_read(ends) {
                return;
            }
            news.await;
        }
    }
}

impl Seen {
    fn new(held: Held) -> Self {
        Self { held, marks: HashMap::new(), order: VecDeque::new(), positions: HashMap::new() }
    }

    fn take(&mut self, batch: &[Record], keep_ms: i64) {
        for record in batch {
            let position = self.positions.entry(record.partition).or_default();
            if record.offset < *position {
                continue;
            }
            *position = record.offset + 1;
            let origin = record.header(header::ORIGIN).and_then(|origin| Origin::of_header(origin));
            if let (Some(origin), Some(key)) = (origin, &record.key) {
                let mark = mark(origin, key);
                *self.marks.entry(mark).or_default() += 1;
                self.order.push_back((record.timestamp_ms, mark));
                self.held.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(newest) = batch.last() {
            self.forget_before(newest.timestamp_ms - keep_ms);
        }
    }

    fn forget_before(&mut self, oldest_ms: i64) {
        while self.order.front().is_some_and(|(at, _)| *at < oldest_ms) {
            self.forget_oldest();
        }
    }

    /// Returns whether there was something to be forgotten.
    fn forget_oldest_quarter(&mut self) -> bool {
        let (before, left) = (self.order.len(), self.order.len() * 3 / 4);
        while self.order.len() > left {
            self.forget_oldest();
        }
        // The room is for others.
        self.order.shrink_to(left);
        self.marks.shrink_to(left);
        before > 0
    }

    fn forget_oldest(&mut self) {
        let Some((_, mark)) = self.order.pop_front() else { return };
        self.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.marks.get_mut(&mark) {
            *count -= 1;
            if *count == 0 {
                self.marks.remove(&mark);
            }
        }
    }

    fn has_read(&self, ends: &[(i32, i64)]) -> bool {
        let read = |partition: &i32| self.positions.get(partition).copied().unwrap_or(0);
        ends.iter().all(|(partition, end)| read(partition) >= *end)
    }

    fn skip_to(&mut self, ends: &[(i32, i64)]) {
        for (partition, end) in ends {
            // Only where nothing was read: what was begun is read to its end, and found by who asks later.
            self.positions.entry(*partition).or_insert(*end);
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.held.fetch_sub(self.order.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use common::testing::TestEngines;

    use super::*;

    fn record(partition: i32, offset: i64, timestamp_ms: i64, origin: Origin, key: &str) -> Record {
        Record {
            topic: Topic::parse("admin.device-data").unwrap(),
            partition,
            offset,
            timestamp_ms,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Bytes::new(),
            headers: [(header::ORIGIN.into(), Bytes::copy_from_slice(origin.as_bytes()))]
                .into_iter()
                .collect(),
        }
    }

    fn found(seen: &Seen, origin: Origin, key: &str) -> Found {
        Found::times(seen.marks.get(&mark(origin, key.as_bytes())).copied().unwrap_or(0) as usize)
    }

    #[test]
    fn a_find_needs_the_same_origin_and_the_same_device() {
        let (one, two) = (Origin::new("c", 1, b"{}"), Origin::new("c", 2, b"{}"));
        let mut seen = Seen::new(Held::default());
        seen.take(&[record(0, 0, 0, one, "t:d1"), record(0, 1, 0, two, "t:d1")], 60_000);
        // Read twice, for example after the log was away.
        seen.take(&[record(0, 1, 0, two, "t:d1")], 60_000);
        assert_eq!(found(&seen, one, "t:d1"), Found::Once);
        assert_eq!(found(&seen, two, "t:d1"), Found::Once);
        assert_eq!(found(&seen, one, "t:d2"), Found::No);
        seen.take(&[record(1, 0, 0, one, "t:d1")], 60_000);
        assert_eq!(found(&seen, one, "t:d1"), Found::Often);
    }

    #[test]
    fn old_origins_are_forgotten() {
        let origins: Vec<Origin> = (0..3).map(|id| Origin::new("c", id, b"{}")).collect();
        let mut seen = Seen::new(Held::default());
        for (at, origin) in origins.iter().enumerate() {
            seen.take(&[record(0, at as i64, at as i64 * 1000, *origin, "t:d")], 1500);
        }
        assert_eq!(found(&seen, origins[0], "t:d"), Found::No);
        assert_eq!(found(&seen, origins[1], "t:d"), Found::Once);
        assert_eq!(seen.order.len(), seen.marks.len());
    }

    /// An index of a topic as it is once it was asked for.
    fn index(redelivery: &Redelivery, topic: &str) -> (Arc<Index>, Lookup) {
        let index = redelivery.get_or_begin(&Topic::parse(topic).unwrap());
        let lookup = Lookup(Arc::downgrade(&index));
        (index, lookup)
    }

    #[tokio::test]
    async fn an_index_that_nobody_asks_for_is_freed_under_the_connections() {
        let engines = TestEngines::embedded().await;
        let clock = Clock::fixed(1_000_000);
        let redelivery = Redelivery::new(&engines.engines.log, clock.clone(), 60).unwrap();
        let origin = Origin::new("c", 1, b"{}");
        let (one, lookup) = index(&redelivery, "admin.device-data");
        one.seen().take(&[record(0, 0, 1_000_000, origin, "t:d")], 60_000);
        drop(one);
        clock.advance(60_000);
        redelivery.sweep();
        assert_eq!(lookup.find(origin, b"t:d"), Some(Found::Once));
        clock.advance(30_001);
        redelivery.sweep();
        assert_eq!(lookup.find(origin, b"t:d"), Some(Found::No), "too old, though nothing new came");
        clock.advance(Redelivery::KEEP_MS);
        redelivery.sweep();
        assert_eq!(lookup.find(origin, b"t:d"), None);
    }

    #[tokio::test]
    async fn all_indexes_have_one_limit_and_the_largest_gives_way() {
        let engines = TestEngines::embedded().await;
        let redelivery = Redelivery::new(&engines.engines.log, Clock::fixed(0), 60).unwrap();
        let origins: Vec<Origin> = (0..100).map(|id| Origin::new("c", id, b"{}")).collect();
        let (large, _) = index(&redelivery, "silent.device-data");
        for (offset, origin) in origins.iter().enumerate() {
            large.seen().take(&[record(0, offset as i64, 0, *origin, "t:d")], 60_000);
        }
        let (small, _) = index(&redelivery, "busy.device-data");
        small.seen().take(&[record(0, 0, 0, origins[0], "t:d")], 60_000);
        redelivery.make_room(100);
        assert_eq!(small.find(origins[0], b"t:d"), Found::Once);
        assert_eq!(large.find(origins[24], b"t:d"), Found::No);
        assert_eq!(large.find(origins[25], b"t:d"), Found::Once);
        assert_eq!(redelivery.held.load(Ordering::Relaxed), 76);
        drop((large, small));
        redelivery.indexes().clear();
        assert_eq!(redelivery.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_topic_was_read_when_all_its_partitions_were() {
        let origin = Origin::new("c", 1, b"{}");
        let mut seen = Seen::new(Held::default());
        let ends = [(0, 5), (1, 3), (2, 0)];
        seen.take(&[record(0, 4, 0, origin, "t:d")], 60_000);
        assert!(!seen.has_read(&ends));
        seen.skip_to(&ends);
        assert!(seen.has_read(&ends));
        assert_eq!(seen.positions[&0], 5);
    }
}
