//! The tables, and what is changed in them. Knows nothing of what is in memory.

use std::{path::Path, sync::Arc};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use super::{
    format::Batch,
    store::{Extent, id_of, options},
};

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
