//! What is read from the tables. Knows nothing of what is in memory.

use std::path::Path;

use bytes::Bytes;
use sqlx::{
    ConnectOptions, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::format::{Batch, Decoder};
use crate::engine::event_log::LogError;

const OFFSET_BITS: u32 = 40;

pub(super) fn id_of(number: i64, offset: i64) -> i64 {
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
    pub(super) fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
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

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn unavailable(error: sqlx::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}
