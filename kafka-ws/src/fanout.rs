//! One tail per process; each record is checked and encoded once and shared by all sockets of its topic.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::extract::ws::Utf8Bytes;
use common::{
    backoff::Backoff,
    engine::{
        Engines, SharedTail, TailLease,
        event_log::{LogError, Record},
    },
    revocation::{Holder, Revoked},
    wire::{Tenant, Topic},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::domain::{close::Close, frame, ticket::Pass};

/// Hands records to sockets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fanout(Arc<Inner>);

struct Inner {
    tail: SharedTail,
    queues: QueueLimits,
    next_id: AtomicU64,
    // Held for one record at a time and never across an await.
    members: Mutex<HashMap<Topic, Vec<Member>>>,
}

/// What may wait for one socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Frames.
    pub(crate) frames: usize,
    /// Bytes.
    pub(crate) bytes: usize,
}

/// A socket as the fan-out sees it.
struct Member {
    id: u64,
    /// Of the tenants that have had the name of the topic's, the one that sees records here.
    generation: i64,
    holder: Holder,
    queue: mpsc::Sender<Utf8Bytes>,
    state: Arc<State>,
}

/// What the fan-out and a socket share.
#[derive(Default)]
struct State {
    /// Bytes in the queue and on their way to the kernel.
    waiting: AtomicUsize,
    ended: CancellationToken,
    why: OnceLock<Close>,
}

impl State {
    fn end(&self, why: Close) {
        let _ = self.why.set(why);
        self.ended.cancel();
    }
}

/// Membership of a socket in a topic, until it is dropped.
pub(crate) struct Subscription {
    fanout: Fanout,
    topic: Topic,
    id: u64,
    frames: mpsc::Receiver<Utf8Bytes>,
    state: Arc<State>,
    _lease: TailLease,
}

/// Tells a socket that it has to end.
#[derive(Clone)]
pub(crate) struct Ending(Arc<State>);

impl Fanout {
    /// Records are taken from the log so many at a time.
    const BATCH: usize = 256;
    /// After so many bytes the sockets get their turn, so that a burst does not fill the queues of quick readers.
    const TURN_BYTES: usize = 64 * 1024;

    pub(crate) fn new(engines: &Engines, queues: QueueLimits) -> Result<Self, LogError> {
        let tail = SharedTail::new(&engines.log, &engines.shutdown)?;
        Ok(Self(Arc::new(Inner { tail, queues, next_id: AtomicU64::new(0), members: Mutex::default() })))
    }

    /// Makes a socket a member of a topic. Every record for its tenant that is appended after this returned reaches it.
    pub(crate) async fn join(&self, topic: &Topic, pass: &Pass) -> Result<Subscription, LogError> {
        let lease = self.0.tail.listen(topic).await?;
        let (queue, frames) = mpsc::channel(self.0.queues.frames);
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let state = Arc::<State>::default();
        let &Pass { generation, holder, .. } = pass;
        let member = Member { id, generation, holder, queue, state: Arc::clone(&state) };
        self.members().entry(topic.clone()).or_default().push(member);
        Ok(Subscription { fanout: self.clone(), topic: topic.clone(), id, frames, state, _lease: lease })
    }

    /// Ends the sockets of a tenant.
    pub(crate) fn end_tenant(&self, tenant: &Tenant, why: Close) {
        let members = self.members();
        let of_tenant = members.iter().filter(|(topic, _)| topic.tenant() == tenant);
        for member in of_tenant.flat_map(|(_, members)| members) {
            member.state.end(why);
        }
    }

    /// Ends the sockets that a user opened with what is void now.
    pub(crate) fn end_revoked(&self, revoked: Revoked, why: Close) {
        let members = self.members();
        for member in members.values().flatten().filter(|member| revoked.covers(member.holder)) {
            member.state.end(why);
        }
    }

    /// Hands out what is appended, for ever.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            match self.0.tail.next_batch(Self::BATCH).await {
                Ok(batch) => {
                    backoff.reset();
                    self.deliver_all(&batch).await;
                }
                Err(error) => {
                    warn!(%error, "cannot read from the log");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn deliver_all(&self, batch: &[Record]) {
        let mut turn = 0;
        for record in batch {
            self.deliver(record);
            turn += record.value.len();
            if turn >= Self::TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn deliver(&self, record: &Record) {
        let mut members = self.members();
        // A record that was on its way when its last socket left.
        let Some(members) = members.get_mut(&record.topic) else { return };
        let Some(frame) = frame::encode(&record.value) else {
            metrics::counter!("kafka_ws_records_not_shown_total").increment(1);
            debug!(topic = %record.topic, offset = record.offset, "not a JSON object, array or null");
            return;
        };
        let generation = record.generation();
        let mut frames = 0;
        members.retain(|member| {
            // An agent that was late may append what a former tenant of the name has reported.
            if generation != 0 && member.generation != 0 && generation != member.generation {
                return true;
            }
            frames += 1;
            member.offer(&frame, self.0.queues.bytes)
        });
        metrics::counter!("kafka_ws_frames_total").increment(frames);
    }

    fn members(&self) -> MutexGuard<'_, HashMap<Topic, Vec<Member>>> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Queues a frame, or ends a socket that does not keep up. Never waits.
    fn offer(&self, frame: &Utf8Bytes, max_bytes: usize) -> bool {
        let waiting = self.state.waiting.fetch_add(frame.len(), Ordering::Relaxed);
        // A record larger than the whole queue is no fault of the reader.
        let fits = waiting == 0 || waiting + frame.len() <= max_bytes;
        let queued = fits && self.queue.try_send(frame.clone()).is_ok();
        if !queued {
            self.state.end(Close::TooSlow);
        }
        queued
    }
}

impl Subscription {
    /// Frames are written so many at a time.
    const AT_ONCE: usize = 64;

    /// Waits for frames and appends them. Returns how many; none when the fan-out has let go of the socket.
    pub(crate) async fn next(&mut self, frames: &mut Vec<Utf8Bytes>) -> usize {
        self.frames.recv_many(frames, Self::AT_ONCE).await
    }

    /// So many bytes are written and wait no more.
    pub(crate) fn written(&self, bytes: usize) {
        self.state.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Tells when the fan-out wants the socket to end.
    pub(crate) fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.state))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut members = self.fanout.members();
        if let Some(of_topic) = members.get_mut(&self.topic) {
            of_topic.retain(|member| member.id != self.id);
            if of_topic.is_empty() {
                members.remove(&self.topic);
            }
        }
    }
}

impl Ending {
    /// Completes when the socket has to end.
    pub(crate) async fn wait(&self) -> Close {
        self.0.ended.cancelled().await;
        self.0.why.get().copied().unwrap_or(Close::GoingAway)
    }
}
