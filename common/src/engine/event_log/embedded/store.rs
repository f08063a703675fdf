//! The tables, and every statement on them. Knows nothing of what is in memory.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::format::{Batch, Decoder};
use crate::engine::event_log::LogError;

/// A topic that is being deleted has no name any more; its row goes when its last batch has gone.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS topics (
        number       INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
        name         TEXT UNIQUE,
        retention_ms INTEGER NOT NULL,
        start_offset INTEGER NOT NULL DEFAULT 0         -- everything before it has expired
    );
    CREATE TABLE IF NOT EXISTS batches (
        id           INTEGER PRIMARY KEY,               -- topic number << 40 | offset of the first record
        last_offset  INTEGER NOT NULL,
        max_ts       INTEGER NOT NULL,
        records      BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS commits (
        group_name   TEXT NOT NULL,
        topic_number INTEGER NOT NULL,
        next_offset  INTEGER NOT NULL,
        PRIMARY KEY (group_name, topic_number)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS commits_of_topic ON commits (topic_number);
    PRAGMA user_version = 1";

const OFFSET_BITS: u32 = 40;

fn id_of(number: i64, offset: i64) -> i64 {
    number << OFFSET_BITS | offset
}

fn offset_of(id: i64) -> i64 {
    id & ((1 << OFFSET_BITS) - 1)
}

/// A topic as it was stored.
pub(super) struct StoredTopic {
    pub(super) number: i64,
    /// Nothing for one whose deletion is not finished.
    pub(super) name: Option<String>,
    pub(super) retention_ms: i64,
    pub(super) start: i64,
    pub(super) head: i64,
    /// Timestamp of the oldest batch.
    pub(super) oldest_ts: Option<i64>,
}

/// A committed offset as it was stored.
pub(super) struct StoredCommit {
    pub(super) group: String,
    pub(super) number: i64,
    pub(super) next: i64,
}

/// Where a batch is, without its records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) max_ts: i64,
}

impl Extent {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self { base: offset_of(row.try_get(0)?), last: row.try_get(1)?, max_ts: row.try_get(2)? })
    }
}

/// Opens connections that lose nothing in a power cut.
pub(super) fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "10000")
        // Only an operator's tools could be in the way, as the directory is locked.
        .busy_timeout(std::time::Duration::from_secs(1))
        .disable_statement_logging()
}

/// Reading, by everybody. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    pool: SqlitePool,
}

impl Store {
    const CONNECTIONS: u32 = 4;
    /// Bytes that are loaded at once: more only fills the memory of slow readers.
    const LOAD_BYTES: usize = 1 << 20;
    const LOAD_BATCHES: i64 = 256;

    pub(super) async fn open(file: &Path) -> Result<Self, LogError> {
        let options = options(file).pragma("cache_size", "-4096").pragma("query_only", "1");
        let pool = SqlitePoolOptions::new().max_connections(Self::CONNECTIONS).connect_with(options).await;
        Ok(Self { pool: pool.map_err(unavailable)? })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn check(&self) -> Result<(), LogError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map_err(unavailable)?;
        Ok(())
    }

    pub(super) async fn topics(&self) -> Result<Vec<StoredTopic>, LogError> {
        let rows = sqlx::query(
            "SELECT number, name, retention_ms, start_offset,
                (SELECT last_offset FROM batches
                 WHERE id >= number << 40 AND id < (number + 1) << 40 ORDER BY id DESC LIMIT 1) AS last_offset,
                (SELECT max_ts FROM batches
                 WHERE id >= number << 40 AND id < (number + 1) << 40 ORDER BY id LIMIT 1) AS oldest_ts
             FROM topics",
        );
        let rows = rows.fetch_all(&self.pool).await.map_err(unavailable)?;
        rows.iter().map(StoredTopic::of).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn commits(&self) -> Result<Vec<StoredCommit>, LogError> {
        let rows = sqlx::query_as("SELECT group_name, topic_number, next_offset FROM commits");
        let rows: Vec<(String, i64, i64)> = rows.fetch_all(&self.pool).await.map_err(unavailable)?;
        Ok(rows.into_iter().map(|(group, number, next)| StoredCommit { group, number, next }).collect())
    }

    /// The batch that holds the record at `from`, or else the next one, and some that follow.
    pub(super) async fn read(&self, number: i64, from: i64) -> Result<Vec<Batch>, LogError> {
        let query = sqlx::query(
            "SELECT id, last_offset, max_ts, records FROM batches
             WHERE id >= coalesce((SELECT max(id) FROM batches WHERE id >= ?1 AND id <= ?2), ?2) AND id < ?3
             AND last_offset >= ?4
             ORDER BY id LIMIT ?5",
        );
        let mut rows = query
            .bind(id_of(number, 0))
            .bind(id_of(number, from))
            .bind(id_of(number + 1, 0))
            .bind(from)
            .bind(Self::LOAD_BATCHES)
            .fetch(&self.pool);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < Self::LOAD_BYTES {
            let row = futures_util::TryStreamExt::try_next(&mut rows).await.map_err(unavailable)?;
            let Some(row) = row else { break };
            let Extent { base, last, max_ts } = Extent::of(&row).map_err(unavailable)?;
            let records = Bytes::copy_from_slice(row.try_get(3).map_err(unavailable)?);
            bytes += records.len();
            batches.push(Batch { base, last, max_ts, records });
        }
        Ok(batches)
    }

    /// Offset of the first record between `start` and `head` that is not older than `timestamp_ms`, else `head`.
    pub(super) async fn offset_at(
        &self,
        number: i64,
        start: i64,
        head: i64,
        timestamp_ms: i64,
    ) -> Result<i64, LogError> {
        // Timestamps never go down within a topic, so halving finds the batch without an index that every append
        // would have to pay for.
        let (mut low, mut high) = (start, head);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.batch_at(number, middle).await.map_err(unavailable)? {
                None => low = middle + 1,
                Some(batch) if batch.max_ts < timestamp_ms => low = (batch.last + 1).max(middle + 1),
                Some(batch) => high = batch.base.max(low).min(middle),
            }
        }
        if low >= head {
            return Ok(head);
        }
        let Some(batch) = self.read(number, low).await?.into_iter().next() else { return Ok(head) };
        let mut decoder = Decoder::new(batch);
        decoder.skip_older(timestamp_ms)?;
        Ok(decoder.next_offset())
    }

    /// The last batch that begins at `offset` or before.
    async fn batch_at(&self, number: i64, offset: i64) -> Result<Option<Extent>, sqlx::Error> {
        let query = sqlx::query(
            "SELECT id, last_offset, max_ts FROM batches WHERE id >= ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1",
        );
        let query = query.bind(id_of(number, 0)).bind(id_of(number, offset));
        query.fetch_optional(&self.pool).await?.as_ref().map(Extent::of).transpose()
    }
}

impl StoredTopic {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let start: i64 = row.try_get("start_offset")?;
        let last: Option<i64> = row.try_get("last_offset")?;
        Ok(Self {
            number: row.try_get("number")?,
            name: row.try_get("name")?,
            retention_ms: row.try_get("retention_ms")?,
            start,
            head: last.map_or(start, |last| last + 1),
            oldest_ts: row.try_get("oldest_ts")?,
        })
    }
}

/// The connection that writes.
pub(super) struct Writing {
    connection: SqliteConnection,
    inserts: [(usize, Arc<str>); 3],
}

/// One transaction. Dropped without [`Changes::commit`] it changes nothing.
pub(super) struct Changes<'a> {
    transaction: sqlx::Transaction<'a, sqlx::Sqlite>,
    inserts: &'a [(usize, Arc<str>); 3],
}

impl Writing {
    pub(super) async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let mut connection = options(file).connect().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        Ok(Self { connection, inserts: [64, 8, 1].map(|rows| (rows, insert_of(rows).into())) })
    }

    pub(super) async fn begin(&mut self) -> Result<Changes<'_>, sqlx::Error> {
        let transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Changes { transaction, inserts: &self.inserts })
    }

    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

/// Statements of few fixed sizes, so that each is prepared once.
fn insert_of(rows: usize) -> String {
    let values = vec!["(?,?,?,?)"; rows].join(",");
    format!("INSERT INTO batches (id, last_offset, max_ts, records) VALUES {values}")
}

impl Changes<'_> {
    pub(super) async fn insert(&mut self, mut batches: &[(i64, Batch)]) -> Result<(), sqlx::Error> {
        while let Some((rows, sql)) = self.inserts.iter().find(|(rows, _)| *rows <= batches.len()) {
            let (now, later) = batches.split_at(*rows);
            let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
            for (number, batch) in now {
                query = query
                    .bind(id_of(*number, batch.base))
                    .bind(batch.last)
                    .bind(batch.max_ts)
                    .bind(&*batch.records);
            }
            query.execute(&mut *self.transaction).await?;
            batches = later;
        }
        Ok(())
    }

    /// Stores offsets by number of the topic. They never go back; those of deleted topics are left out.
    pub(super) async fn commit_offsets(
        &mut self,
        group: &str,
        offsets: &[(i64, i64)],
    ) -> Result<(), sqlx::Error> {
        let query = sqlx::query(
            "INSERT INTO commits (group_name, topic_number, next_offset)
             SELECT ?1, topics.number, value ->> 1 FROM json_each(?2) JOIN topics ON topics.number = value ->> 0
             WHERE topics.name IS NOT NULL
             ON CONFLICT DO UPDATE SET next_offset = max(next_offset, excluded.next_offset)",
        );
        let offsets = serde_json::to_string(offsets).map_err(|error| sqlx::Error::Encode(error.into()))?;
        query.bind(group).bind(offsets).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Creates a topic, or finds the one that exists. Returns its number.
    pub(super) async fn create_topic(&mut self, name: &str, retention_ms: i64) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(
            "INSERT INTO topics (name, retention_ms) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING number",
        );
        query.bind(name).bind(retention_ms).fetch_one(&mut *self.transaction).await
    }

    /// Takes a topic's name and committed offsets away, so that it is gone but for its records. Returns its number.
    pub(super) async fn delete_topic(&mut self, name: &str) -> Result<Option<i64>, sqlx::Error> {
        let query = sqlx::query_scalar("UPDATE topics SET name = NULL WHERE name = ?1 RETURNING number");
        let number: Option<i64> = query.bind(name).fetch_optional(&mut *self.transaction).await?;
        if let Some(number) = number {
            let query = sqlx::query("DELETE FROM commits WHERE topic_number = ?1");
            query.bind(number).execute(&mut *self.transaction).await?;
        }
        Ok(number)
    }

    /// The oldest batches of a topic.
    pub(super) async fn oldest(&mut self, number: i64, limit: i64) -> Result<Vec<Extent>, sqlx::Error> {
        let query = sqlx::query(
            "SELECT id, last_offset, max_ts FROM batches WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        );
        let query = query.bind(id_of(number, 0)).bind(id_of(number + 1, 0)).bind(limit);
        query.fetch_all(&mut *self.transaction).await?.iter().map(Extent::of).collect()
    }

    /// Deletes the batches of a topic that begin before `start`, which must be the base of a batch or the head.
    pub(super) async fn expire(&mut self, number: i64, start: i64) -> Result<(), sqlx::Error> {
        let query = sqlx::query("DELETE FROM batches WHERE id >= ?1 AND id < ?2");
        query.bind(id_of(number, 0)).bind(id_of(number, start)).execute(&mut *self.transaction).await?;
        // Remembered, because offsets must go on from here even when no batch is left.
        let query = sqlx::query("UPDATE topics SET start_offset = ?2 WHERE number = ?1");
        query.bind(number).bind(start).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Removes the last trace of a deleted topic.
    pub(super) async fn forget_topic(&mut self, number: i64) -> Result<(), sqlx::Error> {
        let query = sqlx::query("DELETE FROM topics WHERE number = ?1 AND name IS NULL");
        query.bind(number).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// When it returns, the changes survive a power cut.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn unavailable(error: sqlx::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}
