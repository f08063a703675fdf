//! Readings over time: MongoDB, or SQLite in this process.
//!
//! Both engines promise the same: samples are durable when `insert` returns; a sample that is stored already is left
//! as it is; values come back as the text that was stored; samples are found by tenant, device and attribute only,
//! through an index; among samples of one attribute with equal times the order is that of their identities; samples
//! older than the expiry disappear by themselves.

mod embedded;
mod mongo;

#[cfg(test)]
mod conformance;

use std::path::Path;

use ::mongodb::options::ConnectionString;
use anyhow::Context;
use serde::{Deserialize, Serialize};

pub use self::{embedded::EmbeddedHistory, mongo::MongoHistory};
use crate::{
    clock::Clock,
    wire::{DeviceId, Tenant},
};

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

impl MongoSettings {
    /// Says what is wrong with the URL, before anything waits for an engine that it does not name.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.url.is_empty() {
            return Ok(());
        }
        let is_mongodb = ["mongodb://", "mongodb+srv://"].iter().any(|scheme| self.url.starts_with(scheme));
        anyhow::ensure!(is_mongodb, "the URL must look like mongodb://host:port");
        ConnectionString::parse(&self.url).map(drop).context("the URL cannot be read")
    }
}

/// One value of one attribute at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whose device it is.
    pub tenant: Tenant,
    /// Which of the tenants that have had this name; 0 when that is not known. Only its own tenant finds it.
    pub generation: i64,
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
    /// Inserting a sample whose identity is stored changes nothing. It begins with the offset, so that samples with
    /// equal times are in the order of the log.
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

/// The place of a sample in its attribute's order, for reading on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    ts_ms: i64,
    id: [u8; 16],
}

impl From<&Sample> for Cursor {
    fn from(sample: &Sample) -> Self {
        Self { ts_ms: sample.ts_ms, id: sample.id }
    }
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
pub enum HistoryStore {
    /// MongoDB.
    Mongo(MongoHistory),
    /// SQLite in this process.
    Embedded(EmbeddedHistory),
}

impl HistoryStore {
    /// Connects to MongoDB; does not wait for it to be there. Samples older than `expiry_s` disappear.
    pub async fn mongodb(settings: &MongoSettings, expiry_s: u64) -> Result<Self, HistoryError> {
        MongoHistory::connect(settings, expiry_s).await.map(Self::Mongo)
    }

    /// Opens or creates the store in a directory. Samples older than `expiry_s` disappear.
    pub async fn embedded(directory: &Path, expiry_s: u64) -> Result<Self, HistoryError> {
        EmbeddedHistory::open(directory, expiry_s, Clock::system()).await.map(Self::Embedded)
    }

    /// Stores samples durably. Samples that are stored already are left as they are.
    pub async fn insert(&self, samples: &[Sample]) -> Result<(), HistoryError> {
        if samples.is_empty() {
            return Ok(());
        }
        match self {
            Self::Mongo(history) => history.insert(samples).await,
            Self::Embedded(history) => history.insert(samples).await,
        }
    }

    /// The samples of one attribute of one device, for the tenant of this generation; 0 finds those of all.
    pub async fn query(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
        attr: &str,
        window: Window,
    ) -> Result<Vec<Sample>, HistoryError> {
        self.query_after(tenant, generation, device, attr, window, None).await
    }

    /// Like [`HistoryStore::query`], but only what comes behind `after` in the order of the window. With a limit this
    /// reads results of any size in pieces.
    pub async fn query_after(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
        attr: &str,
        window: Window,
        after: Option<Cursor>,
    ) -> Result<Vec<Sample>, HistoryError> {
        match self {
            Self::Mongo(history) => history.query(tenant, generation, device, attr, window, after).await,
            Self::Embedded(history) => history.query(tenant, generation, device, attr, window, after).await,
        }
    }

    /// Whether the tenant's device has any sample at all.
    pub async fn has_device(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
    ) -> Result<bool, HistoryError> {
        match self {
            Self::Mongo(history) => history.has_device(tenant, generation, device).await,
            Self::Embedded(history) => history.has_device(tenant, generation, device).await,
        }
    }

    /// Removes everything of a tenant that is gone; `generation` tells which of the tenants that have had this name.
    ///
    /// However many instances call it, and however late, nothing is removed after the first of them has returned: by then
    /// the name may belong to a new tenant. Nothing of a later generation is removed either. What an instance stores of the
    /// former tenant afterwards, because it was late, stays until it expires, and nobody finds it.
    pub async fn remove_tenant(&self, tenant: &Tenant, generation: i64) -> Result<(), HistoryError> {
        match self {
            Self::Mongo(history) => history.remove_tenant(tenant, generation).await,
            Self::Embedded(history) => history.remove_tenant(tenant, generation).await,
        }
    }

    /// Whether the engine answers, for readiness.
    pub async fn check(&self) -> Result<(), HistoryError> {
        match self {
            Self::Mongo(history) => history.check().await,
            Self::Embedded(history) => history.check().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_other_engines_are_refused() {
        let validate = |url: &str| MongoSettings { url: url.to_owned(), database: "d".to_owned() }.validate();
        for url in ["", "mongodb://h", "mongodb://u:p@a:1,b:2/?replicaSet=r", "mongodb+srv://u:p@h"] {
            validate(url).unwrap();
        }
        for url in ["postgres://u:secret@h", "u:secret@h:27017", "mongodb://", "mongodb://u:secret@h:port"] {
            let error = validate(url).expect_err(url);
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }
}
