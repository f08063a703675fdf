//! Tickets in the memory of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::TicketError;
use crate::clock::Clock;

/// Values with an expiry, for the services of one process. Cheap to clone.
#[derive(Clone)]
pub struct MemoryTickets {
    clock: Clock,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<(Box<str>, Box<str>), Entry>,
    swept_ms: i64,
}

struct Entry {
    value: Vec<u8>,
    expires_ms: i64,
}

impl MemoryTickets {
    /// Most values at a time: whoever asks for tickets without end must not fill the memory.
    const MAX_ENTRIES: usize = 200_000;
    /// What nobody took is removed so often, by whoever puts something then.
    const SWEEP_EVERY_MS: i64 = 10_000;

    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, shelf: Arc::default() }
    }

    pub(super) fn put(
        &self,
        namespace: &str,
        key: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<(), TicketError> {
        let now_ms = self.clock.now_ms();
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1);
        let entry = Entry { value: value.to_vec(), expires_ms: now_ms.saturating_add(ttl_ms) };
        let name = name(namespace, key);
        let mut all = self.lock();
        if now_ms - all.swept_ms >= Self::SWEEP_EVERY_MS {
            all.swept_ms = now_ms;
            all.entries.retain(|_, entry| entry.expires_ms > now_ms);
        }
        if all.entries.len() >= Self::MAX_ENTRIES && !all.entries.contains_key(&name) {
            return Err(TicketError("it is full".to_owned()));
        }
        all.entries.insert(name, entry);
        Ok(())
    }

    pub(super) fn take(&self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        let entry = self.lock().entries.remove(&name(namespace, key))?;
        (entry.expires_ms > self.clock.now_ms()).then_some(entry.value)
    }

    pub(super) fn peek(&self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        let all = self.lock();
        let entry = all.entries.get(&name(namespace, key))?;
        (entry.expires_ms > self.clock.now_ms()).then(|| entry.value.clone())
    }

    /// A std mutex, because it is never held across an await.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(namespace: &str, key: &str) -> (Box<str>, Box<str>) {
    (namespace.into(), key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_for_its_time_and_is_then_removed() {
        let clock = Clock::fixed(1_000_000);
        let tickets = MemoryTickets::new(clock.clone());
        tickets.put("n", "k", b"v", Duration::from_secs(5)).unwrap();
        clock.advance(4_999);
        assert_eq!(tickets.peek("n", "k").as_deref(), Some(&b"v"[..]));
        clock.advance(1);
        assert_eq!(tickets.peek("n", "k"), None);
        assert_eq!(tickets.lock().entries.len(), 1);
        clock.advance(MemoryTickets::SWEEP_EVERY_MS);
        tickets.put("n", "other", b"v", Duration::from_secs(5)).unwrap();
        assert_eq!(tickets.lock().entries.len(), 1);
    }

    #[test]
    fn a_full_store_refuses_and_goes_on_when_values_expire() {
        let clock = Clock::fixed(0);
        let tickets = MemoryTickets::new(clock.clone());
        for key in 0..MemoryTickets::MAX_ENTRIES {
            tickets.put("n", &key.to_string(), b"", Duration::from_mins(1)).unwrap();
        }
        assert!(tickets.put("n", "one more", b"", Duration::from_mins(1)).is_err());
        tickets.put("n", "0", b"replaced", Duration::from_mins(1)).unwrap();
        clock.advance(60_001);
        tickets.put("n", "one more", b"", Duration::from_mins(1)).unwrap();
    }
}
