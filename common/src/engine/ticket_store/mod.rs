//! Single-use secrets with an expiry: Redis, or the memory of this process.
//!
//! Both engines promise the same: a value lives for its time and not longer; of any number of simultaneous takers at
//! most one gets it; when the engine is away, callers are told so within seconds, and it is used again as soon as it
//! is back.

mod memory;
mod redis;

#[cfg(test)]
mod conformance;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{memory::MemoryTickets, redis::RedisTickets};
use crate::clock::Clock;

/// Where Redis is, section `redis` of the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://[user:password@]host:port/db`; empty for the memory of the process.
    #[serde(default)]
    pub url: String,
}

/// Why a ticket could not be stored or taken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ticket store is not available: {0}")]
pub struct TicketError(pub String);

/// The ticket store. Cheap to clone.
#[derive(Clone)]
pub enum TicketStore {
    /// Redis.
    Redis(RedisTickets),
    /// The memory of this process.
    Memory(MemoryTickets),
}

impl TicketStore {
    /// Connects to Redis; does not wait for it to be there.
    pub fn redis(settings: &RedisSettings) -> Result<Self, TicketError> {
        RedisTickets::new(settings).map(Self::Redis)
    }

    /// Keeps tickets in memory.
    pub fn memory(clock: Clock) -> Self {
        Self::Memory(MemoryTickets::new(clock))
    }

    /// Stores `value` under `key` of `namespace` for `ttl`.
    pub async fn put(
        &self,
        namespace: &str,
        key: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<(), TicketError> {
        match self {
            Self::Redis(tickets) => tickets.put(namespace, key, value, ttl).await,
            Self::Memory(tickets) => tickets.put(namespace, key, value, ttl),
        }
    }

    /// Takes a value out: of any number of simultaneous callers at most one gets it.
    pub async fn take(&self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        match self {
            Self::Redis(tickets) => tickets.take(namespace, key).await,
            Self::Memory(tickets) => Ok(tickets.take(namespace, key)),
        }
    }

    /// Looks at a value without taking it.
    pub async fn peek(&self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        match self {
            Self::Redis(tickets) => tickets.peek(namespace, key).await,
            Self::Memory(tickets) => Ok(tickets.peek(namespace, key)),
        }
    }

    /// Whether the engine answers, for readiness.
    pub async fn check(&self) -> Result<(), TicketError> {
        match self {
            Self::Redis(tickets) => tickets.check().await,
            Self::Memory(_) => Ok(()),
        }
    }
}
