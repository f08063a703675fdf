//! What waits for the writer. Bounded by bytes, so that a slow disk makes producers wait and never fills the memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::{format, group::Group, lock, topic::TopicLog};
use crate::{
    engine::event_log::{Delivery, LogError, NewRecord},
    wire::Topic,
};

/// A record that is to be appended.
pub(super) struct Append {
    pub(super) topic: Arc<TopicLog>,
    pub(super) record: NewRecord,
    pub(super) delivery: Delivery,
    /// Room that it takes in the queue.
    room: usize,
}

/// Something else that is to be written.
pub(super) enum Request {
    CreateTopic {
        topic: Topic,
        retention_ms: i64,
        reply: Reply,
    },
    DeleteTopic {
        topic: Topic,
        reply: Reply,
    },
    /// Offsets by the number of the topic.
    Commit {
        group: Arc<Group>,
        offsets: Vec<(i64, i64)>,
        reply: Reply,
    },
}

pub(super) type Reply = oneshot::Sender<Result<(), LogError>>;

/// What one transaction writes.
#[derive(Default)]
pub(super) struct Work {
    pub(super) appends: Vec<Append>,
    pub(super) requests: Vec<Request>,
    room: usize,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.requests.is_empty()
    }
}

/// The queue between everybody and the writer.
pub(super) struct Queue {
    capacity: usize,
    room: Semaphore,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    requests: Vec<Request>,
    closed: bool,
}

impl Queue {
    /// Bytes that one transaction takes at most: larger ones are hardly faster and make everybody wait longer.
    const TRANSACTION_BYTES: usize = 4 << 20;

    /// A queue with room for `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { capacity, room: Semaphore::new(capacity), waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Waits for room and puts a record into it.
    pub(super) async fn append(&self, topic: Arc<TopicLog>, record: NewRecord, delivery: Delivery) {
        // A record that is larger than the whole queue waits until it is empty.
        let room = format::encoded_len(&record).min(self.capacity);
        let Ok(permit) = self.room.acquire_many(room as u32).await else {
            return delivery.complete(Err(closed()));
        };
        // The room is given back by the writer.
        permit.forget();
        lock(&self.waiting).appends.push_back(Append { topic, record, delivery, room });
        self.filled.notify_one();
    }

    /// Puts in a request, which overtakes the records, and waits until it was carried out.
    pub(super) async fn request(&self, request: impl FnOnce(Reply) -> Request) -> Result<(), LogError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Err(closed());
            }
            waiting.requests.push(request(reply));
        }
        self.filled.notify_one();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Waits until everything that is in the queue now was written.
    pub(super) async fn flush(&self) {
        // The queue is empty when all its room can be had. An error means that it is closed.
        let _ = self.room.acquire_many(self.capacity as u32).await;
    }

    /// Takes what the next transaction writes.
    pub(super) fn take(&self) -> Work {
        let mut waiting = lock(&self.waiting);
        let requests = std::mem::take(&mut waiting.requests);
        let mut work = Work { requests, ..Work::default() };
        while work.room < Self::TRANSACTION_BYTES {
            let Some(append) = waiting.appends.pop_front() else { break };
            work.room += append.room;
            work.appends.push(append);
        }
        work
    }

    /// Gives back the room that `work` took.
    pub(super) fn give_back(&self, room: Room) {
        self.room.add_permits(room.0);
    }

    /// Completes when something was put in, or when the queue was closed.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Nobody is left who could put something in.
    pub(super) fn close(&self) {
        lock(&self.waiting).closed = true;
        self.room.close();
        self.filled.notify_one();
    }

    /// Whether [`Queue::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }
}

/// Room in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room(usize);

impl Work {
    /// The room that it took in the queue.
    pub(super) fn room(&self) -> Room {
        Room(self.room)
    }
}

fn closed() -> LogError {
    LogError::Unavailable("the log is shutting down".to_owned())
}
