//! Readings over time: MongoDB, or SQLite in this process.
#![expect(clippy::todo, clippy::unused_async, missing_docs, reason = "being written")]

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::wire::{DeviceId, Tenant};

/// Where MongoDB is, section `mongodb` of the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MongoSettings {
    /// `mongodb://…`; empty for the embedded store.
    #[serde(default)]
    pub url: String,
    /// Name of the database.
    pub database: String,
}

/// One value of one attribute at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whose device it is.
    pub tenant: Tenant,
    /// The device.
    pub device: DeviceId,
    /// Name of the attribute.
    pub attr: String,
    /// The value, as JSON text exactly as the device sent it.
    pub value: String,
    /// When it was measured, milliseconds since the epoch.
    pub ts_ms: i64,
    /// What else the message's metadata said, as the JSON text of an object.
    pub metadata: String,
    /// Identity of the sample: made from the record's topic, partition, offset and append time, and the attribute.
    /// Inserting a sample whose identity is stored changes nothing.
    pub id: [u8; 16],
}

/// Which samples of an attribute are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Not older than this, milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// Not younger than this.
    pub to_ms: Option<i64>,
    /// Oldest first instead of newest first.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The engine cannot be reached; trying again later may help.
    #[error("the history store is not available: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("the history store failed: {0}")]
    Failed(String),
}

/// The history store. Cheap to clone.
#[derive(Clone)]
pub enum HistoryStore {}

impl HistoryStore {
    /// Connects to MongoDB; does not wait for it to be there.
    pub async fn mongodb(_settings: &MongoSettings, _expiry_s: u64) -> Result<Self, HistoryError> {
        todo!()
    }

    /// Opens or creates the store in a directory.
    pub async fn embedded(_directory: &Path, _expiry_s: u64) -> Result<Self, HistoryError> {
        todo!()
    }

    /// Stores samples durably. Samples that are stored already are left as they are.
    pub async fn insert(&self, _samples: &[Sample]) -> Result<(), HistoryError> {
        todo!()
    }

    /// The samples of one attribute of one device.
    pub async fn query(
        &self,
        _tenant: &Tenant,
        _device: &DeviceId,
        _attr: &str,
        _window: Window,
    ) -> Result<Vec<Sample>, HistoryError> {
        todo!()
    }

    /// Whether the tenant's device has any sample at all.
    pub async fn has_device(&self, _tenant: &Tenant, _device: &DeviceId) -> Result<bool, HistoryError> {
        todo!()
    }

    /// Removes everything of a tenant.
    pub async fn remove_tenant(&self, _tenant: &Tenant) -> Result<(), HistoryError> {
        todo!()
    }

    /// Whether the engine answers, for readiness.
    pub async fn check(&self) -> Result<(), HistoryError> {
        todo!()
    }
}
