//! The history in SQLite: `history.db` in the data directory.
//!
//! Tenant, device and attribute are stored once, in `series`; a sample is one entry of one B-tree that is ordered as
//! it is read: by series, time and identity. The file belongs to one process.

mod known;
mod sweep;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Row, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::Mutex, task::JoinSet};

use self::known::KnownSeries;
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
        value TEXT NOT NULL, metadata TEXT NOT NULL, generation INTEGER NOT NULL,
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
    add_series: Arc<[String]>,
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
        generation: i64,
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
            .bind(generation)
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
                generation: row.try_get(4)?,
            })
        };
        rows.iter().map(sample).collect()
    }

    pub(super) async fn has_device(
        &self,
        tenant: &Tenant,
        generation: i64,
        device: &DeviceId,
    ) -> Result<bool, HistoryError> {
        let found = sqlx::query(
            "SELECT 1 FROM series CROSS JOIN samples ON samples.series = series.id \
             WHERE series.tenant = $1 AND series.device = $2 AND ($3 = 0 OR generation IN (0, $3)) LIMIT 1",
        );
        let found = found.bind(tenant.as_str()).bind(device.as_str()).bind(generation);
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
    /// Series that one statement adds at most, as a power of two.
    const LARGEST_ADDITION: u32 = 7;
    /// Rows that one transaction removes at most, so that inserts never wait for long.
    const REMOVE_AT_ONCE: i64 = 5_000;

    const NEWEST_FIRST: &'static str = "SELECT ts, id, value, metadata, generation FROM samples \
         WHERE series = (SELECT id FROM series WHERE tenant = $1 AND device = $2 AND attr = $3) \
         AND ts BETWEEN $4 AND $5 AND ($6 IS NULL OR (ts, id) < ($6, $7)) \
         AND ($9 = 0 OR generation IN (0, $9)) \
         ORDER BY ts DESC, id DESC LIMIT $8";
    const OLDEST_FIRST: &'static str = "SELECT ts, id, value, metadata, generation FROM samples \
         WHERE series = (SELECT id FROM series WHERE tenant = $1 AND device = $2 AND attr = $3) \
         AND ts BETWEEN $4 AND $5 AND ($6 IS NULL OR (ts, id) > ($6, $7)) \
         AND ($9 = 0 OR generation IN (0, $9)) \
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
        let add_series = (0..=Self::LARGEST_ADDITION).map(|power| series_statement(1 << power)).collect();
        Ok(Self { readers, writer, known: Arc::default(), insert, add_series })
    }

    async fn insert(&self, samples: &[Sample]) -> Result<(), HistoryError> {
        let mut known = self.known.lock().await;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let data_version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *transaction).await?;
        known.look_at(data_version);
        let named: Vec<(u128, &Sample)> =
            samples.iter().map(|sample| (known.key_of(sample), sample)).collect();
        let added = self.add_series(&mut transaction, &known, &named).await?;
        let mut rows = Vec::with_capacity(samples.len());
        for (key, sample) in named {
            let series = known.get(key).or_else(|| added.get(&key).copied());
            let series = series.ok_or_else(|| HistoryError::Failed("a series was not added".to_owned()))?;
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
                    .bind(&sample.metadata)
                    .bind(sample.generation);
            }
            statement.execute(&mut *transaction).await?;
            rest = later;
        }
        transaction.commit().await?;
        // Not before: what was rolled back is not known.
        known.add(added);
        Ok(())
    }

    /// Adds the series that are not known, and gives their identifiers.
    async fn add_series(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        known: &KnownSeries,
        named: &[(u128, &Sample)],
    ) -> Result<HashMap<u128, i64>, sqlx::Error> {
        let missing: HashMap<u128, &Sample> =
            named.iter().filter(|(key, _)| known.get(*key).is_none()).copied().collect();
        let missing: Vec<&Sample> = missing.into_values().collect();
        let mut added = HashMap::with_capacity(missing.len());
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let power = rest.len().ilog2().min(Self::LARGEST_ADDITION);
            let (now, later) = rest.split_at(1 << power);
            let mut statement = sqlx::query(AssertSqlSafe(self.add_series[power as usize].as_str()));
            for Sample { tenant, device, attr, .. } in now {
                statement = statement.bind(tenant.as_str()).bind(device.as_str()).bind(attr);
            }
            // In any order.
            for row in statement.fetch_all(&mut **transaction).await? {
                let key = known.key(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                added.insert(key, row.try_get(0)?);
            }
            rest = later;
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
             CROSS JOIN samples ON samples.series = series.id \
             WHERE series.tenant = $1 AND samples.generation <= $3 LIMIT $2)",
        );
        let removed = removed.bind(tenant.as_str()).bind(Self::REMOVE_AT_ONCE).bind(generation);
        let may_be_more = removed.execute(&mut *transaction).await?.rows_affected() > 0;
        if !may_be_more {
            known.clear();
            let series = sqlx::query(
                "DELETE FROM series WHERE tenant = $1 \
                 AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.series = series.id)",
            );
            let series = series.bind(tenant.as_str());
            series.execute(&mut *transaction).await?;
            let done = sqlx::query("INSERT INTO removed (tenant, generation) VALUES ($1, $2)");
            done.bind(tenant.as_str()).bind(generation).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(may_be_more)
    }
}

fn insert_statement(rows: usize) -> String {
    let rows = vec!["(?,?,?,?,?,?)"; rows].join(",");
    format!("INSERT OR IGNORE INTO samples (series, ts, id, value, metadata, generation) VALUES {rows}")
}

/// Updating to the same value is what makes SQLite return the rows that are there.
fn series_statement(rows: usize) -> String {
    let rows = vec!["(?,?,?)"; rows].join(",");
    format!(
        "INSERT INTO series (tenant, device, attr) VALUES {rows} \
         ON CONFLICT (tenant, device, attr) DO UPDATE SET attr = excluded.attr \
         RETURNING id, tenant, device, attr"
    )
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

    fn sample(attr: String, number: u8) -> Sample {
        Sample {
            tenant: Tenant::parse("t").unwrap(),
            generation: 0,
            device: DeviceId::parse("d").unwrap(),
            attr,
            ts_ms: 1,
            id: [number; 16],
            value: number.to_string(),
            metadata: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn series_that_were_forgotten_are_found_again() {
        let directory = tempfile::TempDir::new().unwrap();
        let history = EmbeddedHistory::open(directory.path(), 604_800, Clock::fixed(0)).await.unwrap();
        history.store.known.lock().await.most = 100;
        let attrs: Vec<String> = (0..300).map(|n| format!("a\0{n}")).collect();
        for (round, at_once) in [(0, 43), (1, 300), (2, 43)] {
            // Each series twice, in pieces that are no power of two.
            for piece in attrs.chunks(at_once) {
                let samples = piece.iter().chain(piece).map(|attr| sample(attr.clone(), round));
                history.insert(&samples.collect::<Vec<_>>()).await.unwrap();
                let known = history.store.known.lock().await.len();
                assert!((1..=100 + at_once).contains(&known), "{known} are known");
            }
        }
        assert!(history.store.known.lock().await.len() <= 143);
        let series: Vec<(i64, String, i64)> = sqlx::query_as(
            "SELECT series.id, attr, count(*) FROM series JOIN samples ON series = series.id GROUP BY 1",
        )
        .fetch_all(&history.store.readers)
        .await
        .unwrap();
        assert_eq!(series.len(), 300);
        assert!(series.iter().all(|(_, attr, samples)| attrs.contains(attr) && *samples == 3));
    }

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
