//! The history in MongoDB: one collection for all tenants, one document per sample.
//!
//! A plain collection takes five times what a time-series collection takes when a batch touches many devices, and a
//! collection per device, as dojot has it, would need indexes without end.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, IndexModel,
    bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc, rawdoc, spec::BinarySubtype},
    error::{Error, ErrorKind},
    options::{Acknowledgment, ClientOptions, IndexOptions, WriteConcern},
};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tracing::info;

use super::{Cursor, HistoryError, MongoSettings, Sample, Window};
use crate::wire::{DeviceId, Tenant};

/// The history in MongoDB. Cheap to clone.
#[derive(Clone)]
pub struct MongoHistory {
    samples: Collection<RawDocumentBuf>,
    /// Removals of tenants that are done.
    removed: Collection<Document>,
    client: Client,
    database: String,
    expiry: Duration,
    /// Set once the indexes are there.
    prepared: Arc<OnceCell<()>>,
}

/// A sample as it is stored; tenant, device and attribute are known from the question.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "_id")]
    id: Binary,
    ts: DateTime,
    v: String,
    #[serde(default)]
    g: i64,
    #[serde(default = "no_metadata")]
    m: String,
}

const NO_METADATA: &str = "{}";

fn no_metadata() -> String {
    NO_METADATA.to_owned()
}

impl MongoHistory {
    const COLLECTION: &'static str = "samples";
    const REMOVED: &'static str = "removed_tenants";
    const SELECTION_TIMEOUT: Duration = Duration::from_secs(2);
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// The driver itself waits without an end for a server that is connected and silent.
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
    const REMOVE_AT_ONCE: i64 = 10_000;
    const DUPLICATE_KEY: i32 = 11_000;
    /// `IndexOptionsConflict`: the index is there with another expiry.
    const OTHER_OPTIONS: i32 = 85;

    pub(super) async fn connect(settings: &MongoSettings, expiry_s: u64) -> Result<Self, HistoryError> {
        let mut options = ClientOptions::parse(&settings.url).await?;
        options.server_selection_timeout = Some(Self::SELECTION_TIMEOUT);
        options.connect_timeout = Some(Self::CONNECT_TIMEOUT);
        options.app_name = Some("tatami".to_owned());
        // Acknowledged means safe: on the disk of a majority.
        options.write_concern =
            Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let client = Client::with_options(options)?;
        let database = client.database(&settings.database);
        let samples = database.collection(Self::COLLECTION);
        let removed = database.collection(Self::REMOVED);
        // MongoDB's largest expiry is 2^31-1 seconds.
        let expiry = Duration::from_secs(expiry_s.min(i32::MAX as u64));
        let database = settings.database.clone();
        Ok(Self { samples, removed, client, database, expiry, prepared: Arc::default() })
    }

    pub(super) async fn insert(&self, samples: &[Sample]) -> Result<(), HistoryError> {
        self.prepare().await?;
        let documents: Vec<RawDocumentBuf> = samples.iter().map(document).collect();
        let inserted = self.samples.insert_many(&documents).ordered(false).into_future();
        match in_time(inserted).await {
            Err(Outcome::Failed(error)) if is_only_duplicates(&error) => Ok(()),
            Err(outcome) => Err(outcome.into()),
            Ok(_) => Ok(()),
        }
    }

    pub(super) async fn query(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
        attr: &str,
        window: Window,
        after: Option<Cursor>,
    ) -> Result<Vec<Sample>, HistoryError> {
        let collection = self.samples.clone_with_type::<Stored>();
        let mut found = collection
            .find(filter(tenant, generation, device, attr, window, after))
            .sort(sort(window.oldest_first));
        if let Some(limit) = window.limit {
            // To MongoDB 0 is no limit, and its limits have 31 bits.
            if limit == 0 {
                return Ok(Vec::new());
            }
            let limit = i32::try_from(limit).map_or(i64::from(i32::MAX), i64::from);
            found = found.limit(limit);
        }
        let read = async {
            let stored: Vec<Stored> = found.await?.try_collect().await?;
            Ok(stored)
        };
        let stored = in_time(read).await?;
        let sample = |stored: Stored| {
            let damaged = || HistoryError::Failed("an identity is damaged".to_owned());
            Ok(Sample {
                tenant: tenant.clone(),
                generation: stored.g,
                device: device.clone(),
                attr: attr.to_owned(),
                value: stored.v,
                ts_ms: stored.ts.timestamp_millis(),
                metadata: stored.m,
                id: stored.id.bytes.try_into().map_err(|_| damaged())?,
            })
        };
        stored.into_iter().map(sample).collect()
    }

    pub(super) async fn has_device(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
    ) -> Result<bool, HistoryError> {
        let collection = self.samples.clone_with_type::<Document>();
        let mut filter = doc! { "t": tenant.as_str(), "d": device.as_str() };
        only_of(generation, &mut filter);
        let found = collection.find_one(filter).projection(doc! { "_id": 1 });
        Ok(in_time(found.into_future()).await?.is_some())
    }

    /// Removes a piece at a time, so that each question has its time-out.
    pub(super) async fn remove_tenant(&self, tenant: &Tenant, generation: i64) -> Result<(), HistoryError> {
        let mark = doc! { "_id": { "tenant": tenant.as_str(), "generation": generation } };
        loop {
            let found = self.some_of(tenant, generation).await?;
            // Asked after the search: unless it is there now, nothing that was found can be a new tenant's.
            if in_time(self.removed.find_one(mark.clone()).into_future()).await?.is_some() {
                return Ok(());
            }
            if found.is_empty() {
                let set = self.removed.replace_one(mark.clone(), mark).upsert(true);
                in_time(set.into_future()).await?;
                return Ok(());
            }
            let these = doc! { "_id": { "$in": found }, "t": tenant.as_str() };
            in_time(self.samples.delete_many(these).into_future()).await?;
        }
    }

    /// Identities of some samples of a tenant, of this generation or earlier ones.
    async fn some_of(&self, tenant: &Tenant, generation: i64) -> Result<Vec<Bson>, HistoryError> {
        let identities = self.samples.clone_with_type::<Document>();
        let find = async {
            let filter = doc! { "t": tenant.as_str(), "g": { "$not": { "$gt": generation } } };
            let some = identities.find(filter).projection(doc! { "_id": 1 }).limit(Self::REMOVE_AT_ONCE);
            some.await?.try_collect::<Vec<Document>>().await
        };
        let found = in_time(find).await?;
        Ok(found.into_iter().filter_map(|mut document| document.remove("_id")).collect())
    }

    pub(super) async fn check(&self) -> Result<(), HistoryError> {
        let database = self.client.database(&self.database);
        in_time(database.run_command(doc! { "ping": 1 }).into_future()).await?;
        self.prepare().await
    }

    /// Makes the indexes, once. Nothing is stored before they are there, so they are made for an empty collection.
    async fn prepare(&self) -> Result<(), HistoryError> {
        self.prepared.get_or_try_init(|| self.create_indexes()).await.copied()
    }

    async fn create_indexes(&self) -> Result<(), HistoryError> {
        // As it is read, down to the identity that orders equal times.
        let reading = IndexModel::builder().keys(doc! { "t": 1, "d": 1, "a": 1, "ts": 1, "_id": 1 }).build();
        in_time(self.samples.create_index(reading).into_future()).await?;
        let expiring = IndexModel::builder()
            .keys(doc! { "ts": 1 })
            .options(IndexOptions::builder().expire_after(self.expiry).build())
            .build();
        match in_time(self.samples.create_index(expiring).into_future()).await {
            Ok(_) => Ok(()),
            Err(Outcome::Failed(error)) if code_of(&error) == Some(Self::OTHER_OPTIONS) => {
                self.change_expiry().await
            }
            Err(outcome) => Err(outcome.into()),
        }
    }

    async fn change_expiry(&self) -> Result<(), HistoryError> {
        let seconds = i64::try_from(self.expiry.as_secs()).unwrap_or(i64::MAX);
        let index = doc! { "keyPattern": { "ts": 1 }, "expireAfterSeconds": seconds };
        let change = doc! { "collMod": Self::COLLECTION, "index": index };
        let database = self.client.database(&self.database);
        in_time(database.run_command(change).into_future()).await?;
        info!(seconds, "the expiry of the history was changed");
        Ok(())
    }
}

fn document(sample: &Sample) -> RawDocumentBuf {
    let mut document = rawdoc! {
        "_id": Binary { subtype: BinarySubtype::Generic, bytes: sample.id.to_vec() },
        "t": sample.tenant.as_str(),
        "d": sample.device.as_str(),
        "a": sample.attr.as_str(),
        "ts": DateTime::from_millis(sample.ts_ms),
        // Text, because BSON has no 1.0 that is not 1, no integers beyond 64 bits and no equal names in an object.
        "v": sample.value.as_str(),
    };
    if sample.generation != 0 {
        document.append(mongodb::bson::cstr!("g"), sample.generation);
    }
    if sample.metadata != NO_METADATA {
        document.append(mongodb::bson::cstr!("m"), sample.metadata.as_str());
    }
    document
}

/// Leaves those of other generations out; those of none are of all.
fn only_of(generation: i64, filter: &mut Document) {
    if generation != 0 {
        filter.insert("g", doc! { "$in": [Bson::Null, Bson::Int64(generation)] });
    }
}

fn filter(
    tenant: &Tenant,
    generation: i64,
    device: &DeviceId,
    attr: &str,
    window: Window,
    after: Option<Cursor>,
) -> Document {
    let mut filter = doc! { "t": tenant.as_str(), "d": device.as_str(), "a": attr };
    only_of(generation, &mut filter);
    let (mut from_ms, mut to_ms) = (window.from_ms, window.to_ms);
    if let Some(Cursor { ts_ms, id }) = after {
        // The cursor narrows the range of the index, so that a piece costs the same wherever it lies.
        let behind = if window.oldest_first {
            from_ms = Some(from_ms.map_or(ts_ms, |from_ms| from_ms.max(ts_ms)));
            "$gt"
        } else {
            to_ms = Some(to_ms.map_or(ts_ms, |to_ms| to_ms.min(ts_ms)));
            "$lt"
        };
        let time = DateTime::from_millis(ts_ms);
        let id = Binary { subtype: BinarySubtype::Generic, bytes: id.to_vec() };
        filter
            .insert("$or", vec![doc! { "ts": { behind: time } }, doc! { "ts": time, "_id": { behind: id } }]);
    }
    let mut times = Document::new();
    for (operator, bound) in [("$gte", from_ms), ("$lte", to_ms)] {
        if let Some(bound) = bound {
            times.insert(operator, Bson::DateTime(DateTime::from_millis(bound)));
        }
    }
    if !times.is_empty() {
        filter.insert("ts", times);
    }
    filter
}

/// The order of the index, so that nothing has to be sorted.
fn sort(oldest_first: bool) -> Document {
    let order = if oldest_first { 1 } else { -1 };
    doc! { "t": order, "d": order, "a": order, "ts": order, "_id": order }
}

enum Outcome {
    Failed(Error),
    NoAnswer,
}

/// Waits for an answer, but not for ever.
async fn in_time<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Outcome> {
    match tokio::time::timeout(MongoHistory::ANSWER_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(Outcome::Failed),
        Err(_) => Err(Outcome::NoAnswer),
    }
}

impl From<Outcome> for HistoryError {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Failed(error) => error.into(),
            Outcome::NoAnswer => Self::Unavailable("MongoDB does not answer".to_owned()),
        }
    }
}

/// Whether all that went wrong is that samples are stored already.
fn is_only_duplicates(error: &Error) -> bool {
    let ErrorKind::InsertMany(failure) = error.kind.as_ref() else { return false };
    let refused = failure.write_errors.as_deref().unwrap_or_default();
    failure.write_concern_error.is_none()
        && !refused.is_empty()
        && refused.iter().all(|refusal| refusal.code == MongoHistory::DUPLICATE_KEY)
}

fn code_of(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

impl From<Error> for HistoryError {
    fn from(error: Error) -> Self {
        let is_away = match error.kind.as_ref() {
            ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::ServerSelection { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::Shutdown => true,
            // A fail-over, a step-down or a majority that cannot be reached.
            ErrorKind::InsertMany(failure) => failure.write_concern_error.is_some(),
            _ => error.contains_label("RetryableWriteError") || error.contains_label("RetryableError"),
        };
        if is_away { Self::Unavailable(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fresh_tenant, real_engine};

    #[tokio::test]
    async fn every_question_is_answered_from_the_index() {
        let settings = MongoSettings { url: real_engine("MONGODB"), database: "tatami_tests".to_owned() };
        let history = MongoHistory::connect(&settings, 604_800).await.unwrap();
        history.check().await.unwrap();
        let (tenant, device) = (fresh_tenant(), DeviceId::parse("d1").unwrap());
        let bounded = Window { from_ms: Some(1), to_ms: Some(2), ..Window::default() };
        let cursor = Cursor { ts_ms: 1, id: [7; 16] };
        let has_device = doc! { "t": tenant.as_str(), "d": "d1" };
        let mut questions = vec![doc! { "find": "samples", "filter": has_device }];
        for window in [Window::default(), bounded] {
            for after in [None, Some(cursor)] {
                for oldest_first in [true, false] {
                    let filter = filter(&tenant, 7, &device, "t", Window { oldest_first, ..window }, after);
                    questions.push(doc! { "find": "samples", "filter": filter, "sort": sort(oldest_first) });
                }
            }
        }
        for question in questions {
            assert_eq!(question.get_document("filter").unwrap().get_str("t").unwrap(), tenant.as_str());
            let explain = doc! { "explain": question.clone(), "verbosity": "queryPlanner" };
            let answer = history.client.database("tatami_tests").run_command(explain).await.unwrap();
            let plan = answer.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap();
            let plan = plan.to_string();
            assert!(plan.contains("\"IXSCAN\"") || plan.contains("\"EOF\""), "{question} {plan}");
            assert!(!plan.contains("\"COLLSCAN\"") && !plan.contains("\"SORT\""), "{question} {plan}");
        }
    }
}
