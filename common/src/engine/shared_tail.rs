//! One tail for many listeners: a topic is read from its first listener to its last.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use tokio::sync::Mutex;

use super::event_log::{EventLog, LogError, Record, Start, Tail};
use crate::{shutdown::Shutdown, wire::Topic};

/// A tail whose topics are counted. Cheap to clone.
#[derive(Clone)]
pub struct SharedTail {
    tail: Arc<Tail>,
    /// Never locked across an await.
    listeners: Arc<std::sync::Mutex<HashMap<Topic, Arc<Listeners>>>>,
    shutdown: Shutdown,
}

/// How many listen to a topic; `None` when it is off the tail for good and somebody else counts anew.
///
/// The lock is held while the topic is added to the tail or removed from it, so that the two never overtake each
/// other; other topics do not wait.
type Listeners = Mutex<Option<usize>>;

/// Keeps a topic on the tail until it is dropped.
pub struct TailLease {
    of: SharedTail,
    topic: Topic,
}

impl SharedTail {
    /// A tail without topics.
    pub fn new(log: &EventLog, shutdown: &Shutdown) -> Result<Self, LogError> {
        Ok(Self { tail: Arc::new(log.tail()?), listeners: Arc::default(), shutdown: shutdown.clone() })
    }

    /// Adds a listener to a topic. When it returns, every record that is appended later will be seen.
    pub async fn listen(&self, topic: &Topic) -> Result<TailLease, LogError> {
        loop {
            let listeners = self.listeners_of(topic);
            let mut count = listeners.lock().await;
            let Some(known) = *count else { continue };
            if known == 0
                && let Err(error) = self.tail.add(topic, Start::End).await
            {
                self.forget(topic);
                *count = None;
                return Err(error);
            }
            *count = Some(known + 1);
            return Ok(TailLease { of: self.clone(), topic: topic.clone() });
        }
    }

    /// Waits for records and returns between 1 and `max` of them. One task reads at a time. Safe to cancel.
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Record>, LogError> {
        self.tail.next_batch(max).await
    }

    async fn leave(&self, topic: &Topic) {
        let listeners = self.listeners_of(topic);
        let mut count = listeners.lock().await;
        match *count {
            Some(known) if known > 1 => *count = Some(known - 1),
            _ => {
                self.tail.remove(topic);
                self.forget(topic);
                *count = None;
            }
        }
    }

    fn listeners_of(&self, topic: &Topic) -> Arc<Listeners> {
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(topic.clone()).or_insert_with(|| Arc::new(Mutex::new(Some(0)))))
    }

    fn forget(&self, topic: &Topic) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }
}

impl Drop for TailLease {
    fn drop(&mut self) {
        // Dropping cannot wait for the lock, so a task does.
        let (of, topic) = (self.of.clone(), self.topic.clone());
        self.of.shutdown.spawn("tail lease", async move { of.leave(&topic).await });
    }
}
