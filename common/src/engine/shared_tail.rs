//! One tail for many listeners: a topic is read from its first listener to its last.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Mutex;

use super::event_log::{EventLog, LogError, Record, Start, Tail};
use crate::{shutdown::Shutdown, wire::Topic};

/// A tail whose topics are counted. Cheap to clone.
#[derive(Clone)]
pub struct SharedTail {
    tail: Arc<Tail>,
    /// The lock is held while a topic is added to the tail or removed from it, so that the two never overtake each
    /// other.
    listeners: Arc<Mutex<HashMap<Topic, usize>>>,
    shutdown: Shutdown,
}

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
        let mut listeners = self.listeners.lock().await;
        let count = listeners.get(topic).copied().unwrap_or_default();
        if count == 0 {
            self.tail.add(topic, Start::End).await?;
        }
        listeners.insert(topic.clone(), count + 1);
        Ok(TailLease { of: self.clone(), topic: topic.clone() })
    }

    /// Waits for records and returns between 1 and `max` of them. One task reads at a time. Safe to cancel.
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Record>, LogError> {
        self.tail.next_batch(max).await
    }

    async fn leave(&self, topic: &Topic) {
        let mut listeners = self.listeners.lock().await;
        match listeners.get_mut(topic) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                listeners.remove(topic);
                self.tail.remove(topic);
            }
        }
    }
}

impl Drop for TailLease {
    fn drop(&mut self) {
        // Dropping cannot wait for the lock, so a task does.
        let (of, topic) = (self.of.clone(), self.topic.clone());
        self.of.shutdown.spawn("tail lease", async move { of.leave(&topic).await });
    }
}
