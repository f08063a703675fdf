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

use anyhow::Context;
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

impl RedisSettings {
    /// Says what is wrong with the URL, before anything waits for an engine that it does not name.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.url.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(self.url.starts_with("redis://"), "the URL must look like redis://host:port/db");
        ::redis::Client::open(self.url.as_str()).map(drop).context("the URL cannot be read")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_other_engines_are_refused() {
        let validate = |url: &str| RedisSettings { url: url.to_owned() }.validate();
        for url in ["", "redis://h", "redis://u:p@h:6379/0"] {
            validate(url).unwrap();
        }
        for url in [
            "http://u:secret@h",
            "u:secret@h:6379",
            "redis://",
            "redis://u:secret@h:port",
            "redis://u:secret@h/x",
        ] {
            let error = validate(url).expect_err(url);
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }
}
