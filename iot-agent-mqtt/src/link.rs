//! The part of a session that other tasks see: the log reports on its publishes here, the control reader closes it
//! and leaves actuations for it.
//!
//! One allocation and one lock per connection. The lock is held for a few instructions, never across an await.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use common::engine::event_log::{DeliverySink, LogError, Position};
use futures_util::task::AtomicWaker;

use crate::{
    domain::{
        dialect::{Dialect, Event, Inbox},
        identity::Identity,
        recent::{Found, Recent},
    },
    packet::{Ack, reason},
};

/// How a client proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// It did not: `allow_anonymous_dojot`.
    Anonymous,
    /// By a password that was issued at this time (milliseconds since the epoch).
    Password { issued_ms: i64 },
    /// By a certificate with this SHA-256 fingerprint.
    Certificate(Box<str>),
}

/// Why a session is closed by somebody else than its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// The same client has connected again.
    TakenOver,
    /// The device, its certificate or its password is no longer good.
    Revoked,
    /// The process ends.
    ShuttingDown,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The log has not answered yet.
    Pending,
    /// It is on the log.
    Durable,
    /// It will never be: with this reason code of version 5.
    Refused(u8),
    /// The log gave up: the client has to send it again.
    Lost,
}

/// A publish on its way: acknowledged when all before it are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// How it is acknowledged; not at all for QoS 0.
    pub(crate) ack: Option<Ack>,
    pub(crate) id: u16,
    /// Short origin, to recognise it when it is sent again.
    pub(crate) short: u64,
    /// Whether it is to be remembered once it is on the log.
    pub(crate) remember: bool,
    pub(crate) outcome: Outcome,
}

/// A message for the client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
}

struct Subscription {
    filter: String,
    inbox: Inbox,
    qos: u8,
}

/// What this connection knows of a publish that its client sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is on its way to the log; its acknowledgement will come.
    InFlight,
    /// It was found this often among those on the log.
    OnLog(Found),
}

/// See the module.
pub(crate) struct Link {
    pub(crate) own: Identity,
    pub(crate) client_id: Box<str>,
    pub(crate) login: Login,
    pub(crate) dialect: Dialect,
    waker: AtomicWaker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Token of the first slot; tokens are consecutive.
    first: u64,
    slots: VecDeque<Slot>,
    recent: Recent,
    closed: Option<Close>,
    subscriptions: Vec<Subscription>,
    queue: VecDeque<Outgoing>,
    /// The connection before this one, until its records have settled.
    previous: Option<Arc<Link>>,
}

/// What a session finds when it looks at its link.
pub(crate) struct Progress {
    /// Publishes that still wait, for the log or for one before them.
    pub(crate) in_flight: usize,
    /// Publishes that were acknowledged just now.
    pub(crate) acknowledged: u64,
    /// The log gave up one: the session must end without acknowledging it.
    pub(crate) lost: bool,
    pub(crate) closed: Option<Close>,
}

impl Link {
    pub(crate) fn new(own: Identity, client_id: &str, login: Login, dialect: Dialect) -> Self {
        let state = Mutex::default();
        Self { own, client_id: client_id.into(), login, dialect, waker: AtomicWaker::new(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is woken by news; one task at a time.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Nobody is woken any more. A waker keeps its task's memory, and a link may outlive its task by minutes.
    pub(crate) fn unregister(&self) {
        drop(self.waker.take());
    }

    /// Takes a place in the order of acknowledgements. Returns the token of the place and how many are taken now;
    /// `None` when the session is closed and nothing may begin any more.
    pub(crate) fn begin(&self, slot: Slot) -> Option<(u64, usize)> {
        let mut state = self.state();
        if state.closed.is_some() {
            return None;
        }
        Some(state.push(slot))
    }

    /// Like [`Link::begin`] for what a session does after its end: its will.
    pub(crate) fn begin_last(&self, slot: Slot) -> u64 {
        self.state().push(slot).0
    }

    /// Takes what is ready from the front, in order, and shows each to `acknowledge`.
    pub(crate) fn collect(&self, mut acknowledge: impl FnMut(Ack, u16, u8)) -> Progress {
        let mut state = self.state();
        let mut progress = Progress { in_flight: 0, acknowledged: 0, lost: false, closed: state.closed };
        if state.slots.is_empty() && state.slots.capacity() > 0 {
            // Nothing happened since the last look: an idle connection keeps no buffer.
            state.slots = VecDeque::new();
        }
        while let Some(slot) = state.slots.front().copied() {
            match (slot.outcome, slot.ack) {
                (Outcome::Pending, _) => break,
                (Outcome::Lost, _) => {
                    progress.lost = true;
                    break;
                }
                (_, None) => {}
                (Outcome::Durable, Some(ack)) => {
                    acknowledge(ack, slot.id, reason::SUCCESS);
                    progress.acknowledged += 1;
                }
                (Outcome::Refused(reason), Some(ack)) => acknowledge(ack, slot.id, reason),
            }
            state.pop();
        }
        progress.in_flight = state.slots.len();
        progress
    }

    /// Looks for a publish that is sent again.
    pub(crate) fn known(&self, id: u16, short: u64) -> Known {
        let state = self.state();
        let same = |slot: &&Slot| slot.remember && slot.id == id && slot.short == short;
        let mut on_log = state.recent.find(id, short);
        for slot in state.slots.iter().filter(same) {
            match slot.outcome {
                Outcome::Pending => return Known::InFlight,
                Outcome::Durable if on_log == Found::No => on_log = Found::Once,
                Outcome::Durable => on_log = Found::Often,
                Outcome::Refused(_) | Outcome::Lost => {}
            }
        }
        Known::OnLog(on_log)
    }

    /// Whether a QoS 2 publish with this packet id still waits for its PUBREC.
    pub(crate) fn awaits_log(&self, id: u16) -> bool {
        self.state().slots.iter().any(|slot| slot.id == id && slot.ack == Some(Ack::Received))
    }

    /// Asks the session to end. The first reason stays.
    pub(crate) fn close(&self, why: Close) {
        self.state().closed.get_or_insert(why);
        self.waker.wake();
    }

    /// Why the session has to end.
    pub(crate) fn closed(&self) -> Option<Close> {
        self.state().closed
    }

    /// Adds or replaces a subscription.
    pub(crate) fn subscribe(&self, filter: &str, inbox: Inbox, qos: u8) {
        let mut state = self.state();
        match state.subscriptions.iter_mut().find(|known| known.filter == filter) {
            Some(known) => known.qos = qos,
            None => state.subscriptions.push(Subscription { filter: filter.to_owned(), inbox, qos }),
        }
    }

    /// Removes a subscription; says whether there was one.
    pub(crate) fn unsubscribe(&self, filter: &str) -> bool {
        let mut state = self.state();
        let before = state.subscriptions.len();
        state.subscriptions.retain(|known| known.filter != filter);
        state.subscriptions.len() < before
    }

    /// Leaves an event for the client, once for each name under which it subscribed. Returns how many messages had
    /// to be dropped because the client is too slow.
    pub(crate) fn deliver(&self, event: Event<'_>, limit: usize) -> u64 {
        let mut state = self.state();
        let mut dropped = 0;
        for inbox in [Inbox::ColonConfig, Inbox::SlashConfig] {
            let subscribed = state.subscriptions.iter().filter(|known| known.inbox == inbox);
            let Some(qos) = subscribed.map(|known| known.qos).max() else { continue };
            let message = self.dialect.deliver(&self.own, inbox, event);
            if state.queue.len() >= limit {
                state.queue.pop_front();
                dropped += 1;
            }
            let payload = Bytes::copy_from_slice(message.payload.as_bytes());
            state.queue.push_back(Outgoing { topic: message.topic, payload, qos });
        }
        drop(state);
        self.waker.wake();
        dropped
    }

    /// The next message for the client. One with QoS 1 only if `may_wait`: if there is room among those that wait
    /// for the client's acknowledgement.
    pub(crate) fn next_outgoing(&self, may_wait: bool) -> Option<Outgoing> {
        let mut state = self.state();
        if !may_wait && state.queue.front()?.qos > 0 {
            return None;
        }
        let next = state.queue.pop_front();
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
        }
        next
    }

    /// Whether the log has answered for everything.
    pub(crate) fn is_settled(&self) -> bool {
        self.state().slots.iter().all(|slot| slot.outcome != Outcome::Pending)
    }

    /// Whether anything is known that the client's next connection may need.
    pub(crate) fn is_worth_remembering(&self) -> bool {
        let state = self.state();
        !state.recent.is_empty() || !state.slots.is_empty() || state.previous.is_some()
    }

    /// Names the connection before this one.
    pub(crate) fn follow(&self, previous: Option<Arc<Self>>) {
        self.state().previous = previous;
    }

    /// The connection before this one, if its knowledge was not taken over yet.
    pub(crate) fn previous(&self) -> Option<Arc<Self>> {
        self.state().previous.clone()
    }

    /// Takes over what the connection before this one knows, which must be settled. That one's own predecessor, if
    /// it was not taken over, becomes this one's.
    pub(crate) fn inherit(&self) {
        let Some(previous) = self.state().previous.take() else { return };
        // Never both locks at once.
        let (recent, older) = previous.bequeath();
        let mut state = self.state();
        state.recent.inherit(recent);
        state.previous = older;
    }

    fn bequeath(&self) -> (Recent, Option<Arc<Self>>) {
        let mut state = self.state();
        while !state.slots.is_empty() {
            state.pop();
        }
        state.queue.clear();
        (std::mem::take(&mut state.recent), state.previous.take())
    }
}

impl State {
    fn push(&mut self, slot: Slot) -> (u64, usize) {
        self.slots.push_back(slot);
        let taken = self.slots.len();
        (self.first + taken as u64 - 1, taken)
    }

    fn pop(&mut self) {
        let Some(slot) = self.slots.pop_front() else { return };
        self.first += 1;
        if slot.remember && slot.outcome == Outcome::Durable {
            self.recent.push(slot.id, slot.short);
        }
    }
}

impl DeliverySink for Link {
    fn delivered(&self, token: u64, result: Result<Position, LogError>) {
        let mut state = self.state();
        let outcome = match result {
            Ok(_) => Outcome::Durable,
            // Sending it again would not help.
            Err(LogError::TooLarge) => Outcome::Refused(reason::QUOTA_EXCEEDED),
            Err(LogError::UnknownTopic(_)) => {
                state.closed.get_or_insert(Close::Revoked);
                Outcome::Lost
            }
            Err(LogError::Unavailable(_) | LogError::Failed(_)) => Outcome::Lost,
        };
        let at = token.checked_sub(state.first).map(|at| at as usize);
        if let Some(slot) = at.and_then(|at| state.slots.get_mut(at)) {
            slot.outcome = outcome;
        }
        drop(state);
        // What is not at the front cannot be acknowledged yet.
        if at == Some(0) {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::UserName;

    fn link() -> Link {
        let own = UserName::parse("admin:a1").unwrap().identity;
        Link::new(own, "client", Login::Anonymous, Dialect::Dojot)
    }

    fn slot(id: u16) -> Slot {
        let short = u64::from(id) * 10;
        Slot { ack: Some(Ack::Acknowledged), id, short, remember: true, outcome: Outcome::Pending }
    }

    const DURABLE: Result<Position, LogError> = Ok(Position { partition: 0, offset: 0 });

    fn acknowledged(link: &Link) -> Vec<u16> {
        let mut ids = Vec::new();
        link.collect(|_, id, _| ids.push(id));
        ids
    }

    #[test]
    fn acknowledgements_keep_the_order_of_the_publishes() {
        let link = link();
        let tokens: Vec<u64> = (1..=3).map(|id| link.begin(slot(id)).unwrap().0).collect();
        link.delivered(tokens[2], DURABLE);
        link.delivered(tokens[1], DURABLE);
        assert!(acknowledged(&link).is_empty());
        link.delivered(tokens[0], DURABLE);
        assert_eq!(acknowledged(&link), [1, 2, 3]);
        assert_eq!(link.begin(slot(4)).unwrap(), (3, 1));
    }

    #[test]
    fn nothing_is_acknowledged_from_a_lost_publish_on() {
        let link = link();
        let tokens: Vec<u64> = (1..=3).map(|id| link.begin(slot(id)).unwrap().0).collect();
        link.delivered(tokens[0], DURABLE);
        link.delivered(tokens[1], Err(LogError::Unavailable("gone".to_owned())));
        link.delivered(tokens[2], DURABLE);
        let mut ids = Vec::new();
        assert!(link.collect(|_, id, _| ids.push(id)).lost);
        assert_eq!(ids, [1]);
    }

    #[test]
    fn a_closed_session_begins_nothing() {
        let link = link();
        link.close(Close::Revoked);
        link.close(Close::TakenOver);
        assert!(link.begin(slot(1)).is_none());
        assert_eq!(link.closed(), Some(Close::Revoked));
    }

    #[test]
    fn the_next_connection_knows_what_the_last_one_left_on_the_log() {
        let old = Arc::new(link());
        let tokens: Vec<u64> = (1..=3).map(|id| old.begin(slot(id)).unwrap().0).collect();
        old.delivered(tokens[0], DURABLE);
        assert_eq!(acknowledged(&old), [1]);
        old.close(Close::TakenOver);
        let new = link();
        new.follow(Some(Arc::clone(&old)));
        assert!(!old.is_settled());
        // Two is lost, three arrives after the end of its connection.
        old.delivered(tokens[1], Err(LogError::Failed("no".to_owned())));
        old.delivered(tokens[2], DURABLE);
        assert!(old.is_settled());
        new.inherit();
        assert_eq!(new.known(1, 10), Known::OnLog(Found::Once));
        assert_eq!(new.known(2, 20), Known::OnLog(Found::No));
        assert_eq!(new.known(3, 30), Known::OnLog(Found::Once));
        assert_eq!(new.known(3, 31), Known::OnLog(Found::No));
    }

    #[test]
    fn a_slow_client_loses_the_oldest_actuation() {
        let link = link();
        link.subscribe("admin:a1/config", Inbox::ColonConfig, 1);
        let deliver = |attrs| link.deliver(Event::Configure { attrs }, 2);
        assert_eq!([deliver("1"), deliver("2"), deliver("3")], [0, 0, 1]);
        assert!(link.next_outgoing(false).is_none());
        assert_eq!(link.next_outgoing(true).unwrap().payload, "2");
        assert!(link.unsubscribe("admin:a1/config"));
        deliver("4");
        assert_eq!(link.next_outgoing(true).unwrap().payload, "3");
        assert!(link.next_outgoing(true).is_none());
    }
}
