//! The history in SQLite: `history.db` in the data directory.
//!
//! Tenant, device and attribute are stored once, in `series`; a sample is one entry of one B-tree that is ordered as
//! it is read: by series, time and identity. The file belongs to one process.

mod sweep;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Row, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::Mutex, task::JoinSet};

use super::{Cursor, HistoryError, Sample, Window};
use crate::{
    clock::Clock,
    wire::{DeviceId, Tenant},
};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS series (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL, device TEXT NOT NULL, attr TEXT NOT NULL,
        UNIQUE (tenant, device, attr));
    CREATE TABLE IF NOT EXISTS samples (
        series INTEGER NOT NULL, ts INTEGER NOT NULL, id BLOB NOT NULL,
        value TEXT NOT NULL, metadata TEXT NOT NULL,
        PRIMARY KEY (series, ts, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removed (
        tenant TEXT NOT NULL, generation INTEGER NOT NULL,
        PRIMARY KEY (tenant, generation)) WITHOUT ROWID";

/// The history in SQLite. Cheap to clone; removing old samples ends with the last clone.
#[derive(Clone)]
pub struct EmbeddedHistory {
    store: Store,
    _sweeper: Arc<JoinSet<()>>,
}

#[derive(Clone)]
struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
    /// Series that are known to be stored. Whoever holds it may write, so writers queue here and not for the file.
    known: Arc<Mutex<KnownSeries>>,
    insert: Arc<[String]>,
}

/// Tenant, device, attribute.
type Name = (Tenant, DeviceId, String);

#[derive(Default)]
struct KnownSeries {
    ids: HashMap<Name, i64>,
    /// SQLite's count of what other connections wrote: somebody else may have removed series.
    data_version: i64,
}

impl EmbeddedHistory {
    /// Opens or creates `history.db` in a directory.
    pub(super) async fn open(directory: &Path, expiry_s: u64, clock: Clock) -> Result<Self, HistoryError> {
        let failed =
            |error: &dyn std::fmt::Display| HistoryError::Failed(format!("{}: {error}", directory.display()));
        tokio::fs::create_dir_all(directory).await.map_err(|error| failed(&error))?;
        let store = Store::open(&directory.join("history.db")).await.map_err(|error| failed(&error))?;
        let mut sweeper = JoinSet::new();
        sweeper.spawn(sweep::run(store.clone(), i64::try_from(expiry_s).unwrap_or(i64::MAX), clock));
        Ok(Self { store, _sweeper: Arc::new(sweeper) })
    }

    pub(super) async fn insert(&self, samples: &[Sample]) -> Result<(), HistoryError> {
        self.store.insert(samples).await
    }

    pub(super) async fn query(
        &self,
        tenant: &Tenant,
        device: &DeviceId,
        attr: &str,
        window: Window,
        after: Option<Cursor>,
    ) -> Result<Vec<Sample>, HistoryError> {
        let (mut from_ms, mut to_ms) = (window.from_ms.unwrap_or(i64::MIN), window.to_ms.unwrap_or(i64::MAX));
        // The cursor narrows the range of the index, so that a piece costs the same wherever it lies.
        match after {
            Some(after) if window.oldest_first => from_ms = from_ms.max(after.ts_ms),
            Some(after) => to_ms = to_ms.min(after.ts_ms),
            None => {}
        }
        let sql = if window.oldest_first { Store::OLDEST_FIRST } else { Store::NEWEST_FIRST };
        let rows = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(device.as_str())
            .bind(attr)
            .bind(from_ms)
            .bind(to_ms)
            .bind(after.map(|after| after.ts_ms))
            .bind(after.map(|after| after.id.to_vec()))
            // A negative limit is none.
            .bind(window.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)))
            .fetch_all(&self.store.readers)
            .await?;
        let sample = |row: &sqlx::sqlite::SqliteRow| -> Result<Sample, HistoryError> {
            let id: &[u8] = row.try_get(1)?;
            Ok(Sample {
                tenant: tenant.clone(),
                device: device.clone(),
                attr: attr.to_owned(),
                ts_ms: row.try_get(0)?,
                id: id.try_into().map_err(|_| HistoryError::Failed("an identity is damaged".to_owned()))?,
                value: row.try_get(2)?,
                metadata: row.try_get(3)?,
            })
        };
        rows.iter().map(sample).collect()
    }

    pub(super) async fn has_device(&self, tenant: &Tenant, device: &DeviceId) -> Result<bool, HistoryError> {
        let found = sqlx::query(
            "SELECT 1 FROM series CROSS JOIN samples ON samples.series = series.id \
             WHERE series.tenant = $1 AND series.device = $2 LIMIT 1",
        );
        let found = found.bind(tenant.as_str()).bind(device.as_str());
        Ok(found.fetch_optional(&self.store.readers).await?.is_some())
    }

    pub(super) async fn remove_tenant(&self, tenant: &Tenant, generation: i64) -> Result<(), HistoryError> {
        while self.store.remove_some_of(tenant, generation).await? {}
        Ok(())
    }

    pub(super) async fn check(&self) -> Result<(), HistoryError> {
        sqlx::query("SELECT 1").execute(&self.store.readers).await?;
        Ok(())
    }
}

impl Store {
    /// Rows of the largest insert statement, as a power of two; SQLite allows 32,766 parameters.
    const LARGEST_INSERT: u32 = 9;
    /// More known series than this are forgotten and looked up again.
    const MAX_KNOWN: usize = 100_000;
    /// Rows that one transaction removes at most, so that inserts never wait for long.
    const REMOVE_AT_ONCE: i64 = 5_000;

    const NEWEST_FIRST: &'static str = "SELECT ts, id, value, metadata FROM samples \
         WHERE series = (SELECT id FROM series WHERE tenant = $1 AND device = $2 AND attr = $3) \
         AND ts BETWEEN $4 AND $5 AND ($6 IS NULL OR (ts, id) < ($6, $7)) \
         ORDER BY ts DESC, id DESC LIMIT $8";
    const OLDEST_FIRST: &'static str = "SELECT ts, id, value, metadata FROM samples \
         WHERE series = (SELECT id FROM series WHERE tenant = $1 AND device = $2 AND attr = $3) \
         AND ts BETWEEN $4 AND $5 AND ($6 IS NULL OR (ts, id) > ($6, $7)) \
         ORDER BY ts, id LIMIT $8";

    async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        // Inserts touch a page per series: with a large cache and few checkpoints each is written once for many rows.
        let writing = options.clone().pragma("cache_size", "-65536").pragma("wal_autocheckpoint", "10000");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                // A full disk ends a transaction inside SQLite, and sqlx goes on counting it: such a connection could
                // never begin another, so it is replaced.
                .before_acquire(|connection, _| {
                    Box::pin(async move { Ok(!sqlx::Connection::is_in_transaction(&*connection)) })
                })
        };
        let writer = pool(1).idle_timeout(None).max_lifetime(None).connect_with(writing).await?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await?;
        let readers = pool(4).connect_lazy_with(options.pragma("cache_size", "-8192"));
        let insert = (0..=Self::LARGEST_INSERT).map(|power| insert_statement(1 << power)).collect();
        Ok(Self { readers, writer, known: Arc::default(), insert })
    }

    async fn insert(&self, samples: &[Sample]) -> Result<(), HistoryError> {
        let mut known = self.known.lock().await;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let data_version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *transaction).await?;
        if data_version != known.data_version || known.ids.len() > Self::MAX_KNOWN {
            *known = KnownSeries { ids: HashMap::new(), data_version };
        }
        let added = Self::add_series(&mut transaction, &known, samples).await?;
        let mut rows = Vec::with_capacity(samples.len());
        for sample in samples {
            let name = name_of(sample);
            let series = known.ids.get(&name).or_else(|| added.get(&name));
            let series = *series.ok_or_else(|| HistoryError::Failed("a series was not added".to_owned()))?;
            rows.push((series, sample));
        }
        // Neighbours in the tree are written together.
        rows.sort_unstable_by_key(|(series, sample)| (*series, sample.ts_ms, sample.id));
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let power = rest.len().ilog2().min(Self::LARGEST_INSERT);
            let (now, later) = rest.split_at(1 << power);
            let mut statement = sqlx::query(AssertSqlSafe(self.insert[power as usize].as_str()));
            for (series, sample) in now {
                statement = statement
                    .bind(series)
                    .bind(sample.ts_ms)
                    .bind(&sample.id[..])
                    .bind(&sample.value)
                    .bind(&sample.metadata);
            }
            statement.execute(&mut *transaction).await?;
            rest = later;
        }
        transaction.commit().await?;
        // Not before: what was rolled back is not known.
        known.ids.extend(added);
        Ok(())
    }

    /// Adds the series that are not known, and gives their identifiers.
    async fn add_series(
        transaction: &mut Transaction<'_, Sqlite>,
        known: &KnownSeries,
        samples: &[Sample],
    ) -> Result<HashMap<Name, i64>, sqlx::Error> {
        let missing: HashSet<Name> =
            samples.iter().map(name_of).filter(|name| !known.ids.contains_key(name)).collect();
        let mut added = HashMap::with_capacity(missing.len());
        for name in missing {
            let (tenant, device, attr) = &name;
            // Updating to the same value is what makes SQLite return the row that is there.
            let id = sqlx::query_scalar(
                "INSERT INTO series (tenant, device, attr) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant, device, attr) DO UPDATE SET attr = excluded.attr RETURNING id",
            );
            let id = id.bind(tenant.as_str()).bind(device.as_str()).bind(attr);
            let id = id.fetch_one(&mut **transaction).await?;
            added.insert(name, id);
        }
        Ok(added)
    }

    /// Removes samples of a tenant and then its series; returns whether there may be more.
    async fn remove_some_of(&self, tenant: &Tenant, generation: i64) -> Result<bool, HistoryError> {
        let mut known = self.known.lock().await;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let is_done = sqlx::query("SELECT 1 FROM removed WHERE tenant = $1 AND generation = $2");
        let is_done = is_done.bind(tenant.as_str()).bind(generation);
        if is_done.fetch_optional(&mut *transaction).await?.is_some() {
            return Ok(false);
        }
        let removed = sqlx::query(
            "DELETE FROM samples WHERE (series, ts, id) IN (\
             SELECT samples.series, samples.ts, samples.id FROM series \
             CROSS JOIN samples ON samples.series = series.id WHERE series.tenant = $1 LIMIT $2)",
        );
        let removed = removed.bind(tenant.as_str()).bind(Self::REMOVE_AT_ONCE);
        let may_be_more = removed.execute(&mut *transaction).await?.rows_affected() > 0;
        if !may_be_more {
            known.ids.clear();
            let series = sqlx::query("DELETE FROM series WHERE tenant = $1").bind(tenant.as_str());
            series.execute(&mut *transaction).await?;
            let done = sqlx::query("INSERT INTO removed (tenant, generation) VALUES ($1, $2)");
            done.bind(tenant.as_str()).bind(generation).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(may_be_more)
    }
}

fn name_of(sample: &Sample) -> Name {
    (sample.tenant.clone(), sample.device.clone(), sample.attr.clone())
}

fn insert_statement(rows: usize) -> String {
    let row = |index: usize| {
        let first = index * 5;
        format!("(${},${},${},${},${})", first + 1, first + 2, first + 3, first + 4, first + 5)
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT OR IGNORE INTO samples (series, ts, id, value, metadata) VALUES {}", rows.join(","))
}

impl From<sqlx::Error> for HistoryError {
    fn from(error: sqlx::Error) -> Self {
        let is_away = match &error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
            // Locked for longer than the time-out, disk full, disk failing: all may pass.
            sqlx::Error::Database(database) => {
                matches!(database.code().as_deref(), Some("5" | "6" | "10" | "13"))
            }
            _ => false,
        };
        if is_away { Self::Unavailable(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_question_is_answered_from_the_tree() {
        let directory = tempfile::TempDir::new().unwrap();
        let history = EmbeddedHistory::open(directory.path(), 604_800, Clock::system()).await.unwrap();
        for sql in [Store::NEWEST_FIRST, Store::OLDEST_FIRST] {
            let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let rows = explain.fetch_all(&history.store.readers).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("; ");
            assert!(plan.contains("SEARCH samples USING PRIMARY KEY (series=? AND ts>? AND ts<?)"), "{plan}");
            assert!(!plan.contains("SCAN samples") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
