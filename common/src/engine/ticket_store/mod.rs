//! Single-use secrets with an expiry: Redis, or the memory of this process.
#![expect(clippy::todo, clippy::unused_async, missing_docs, reason = "being written")]

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
pub enum TicketStore {}

impl TicketStore {
    /// Connects to Redis; does not wait for it to be there.
    pub fn redis(_settings: &RedisSettings) -> Result<Self, TicketError> {
        todo!()
    }

    /// Keeps tickets in memory.
    pub fn memory(_clock: Clock) -> Self {
        todo!()
    }

    /// Stores `value` under `key` of `namespace` for `ttl`.
    pub async fn put(
        &self,
        _namespace: &str,
        _key: &str,
        _value: &[u8],
        _ttl: Duration,
    ) -> Result<(), TicketError> {
        todo!()
    }

    /// Takes a value out: of any number of simultaneous callers at most one gets it.
    pub async fn take(&self, _namespace: &str, _key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        todo!()
    }

    /// Looks at a value without taking it.
    pub async fn peek(&self, _namespace: &str, _key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        todo!()
    }

    /// Whether the engine answers, for readiness.
    pub async fn check(&self) -> Result<(), TicketError> {
        todo!()
    }
}
