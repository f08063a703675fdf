//! A change and its event leave together: the event is a row of the same transaction, relayed to the log in order
//! and at least once.
//!
//! A service that uses it has the tables of [`MIGRATION`] in its migrations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};
use tokio::sync::Notify;
use tracing::warn;
use uuid::Uuid;

use super::{
    Sql,
    event_log::{EventLog, Headers, LogError, NewRecord},
    sql::SqlError,
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    shutdown::Shutdown,
    tenancy::Topics,
    wire::{Subject, Tenant, header},
};

/// What an outbox needs in the database of its service.
pub const MIGRATION: &str = "
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    record_key TEXT,
    value TEXT NOT NULL
);
CREATE TABLE outbox_lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
";

/// An event that waits in the outbox.
#[derive(Debug)]
pub struct Event<'a> {
    /// Whose topic it goes to.
    pub tenant: &'a Tenant,
    /// What it is about.
    pub subject: Subject,
    /// Key of the record.
    pub key: Option<String>,
    /// The contract's message, as JSON text.
    pub value: String,
}

/// The events of one service that are not on the log yet. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    sql: Sql,
    wake: Arc<Notify>,
}

impl Outbox {
    const LEASE: Duration = Duration::from_secs(10);
    const BATCH: i64 = 256;

    /// The outbox in the database of a service; starts the task that relays it.
    pub fn start(sql: Sql, log: EventLog, topics: Topics, clock: Clock, shutdown: &Shutdown) -> Self {
        let outbox = Self { sql, wake: Arc::new(Notify::new()) };
        let relay = Relay { outbox: outbox.clone(), log, topics, clock, owner: Uuid::new_v4().to_string() };
        let stop = shutdown.clone();
        shutdown.spawn("outbox relay", async move {
            stop.unless_requested(relay.run()).await;
            // Another instance, or this one after its restart, need not wait until the lease expires.
            let _ = tokio::time::timeout(Duration::from_secs(1), relay.give_up_lease()).await;
        });
        outbox
    }

    /// Adds an event to a transaction. Call [`Outbox::committed`] after the commit.
    pub async fn add(
        &self,
        transaction: &mut Transaction<'static, Any>,
        event: Event<'_>,
    ) -> Result<(), SqlError> {
        // Version 7 identifiers grow with time, so the relay's order is the order of insertion.
        let id = Uuid::now_v7().to_string();
        sqlx::query(
            "INSERT INTO outbox (id, tenant, subject, record_key, value) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(event.tenant.as_str())
        .bind(event.subject.as_str())
        .bind(event.key)
        .bind(event.value)
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Adds many events to a transaction, in order, with few statements. Call [`Outbox::committed`] after the commit.
    pub async fn add_all(
        &self,
        transaction: &mut Transaction<'static, Any>,
        events: Vec<Event<'_>>,
    ) -> Result<(), SqlError> {
        for events in events.chunks(Self::BATCH as usize) {
            let row = |row: usize| {
                let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(|column| row * 5 + column);
                format!("(${a}, ${b}, ${c}, ${d}, ${e})")
            };
            let rows: Vec<String> = (0..events.len()).map(row).collect();
            let sql = format!(
                "INSERT INTO outbox (id, tenant, subject, record_key, value) VALUES {}",
                rows.join(", ")
            );
            // Made of constants and placeholders.
            let mut insert = sqlx::query(AssertSqlSafe(sql));
            for event in events {
                insert = insert
                    .bind(Uuid::now_v7().to_string())
                    .bind(event.tenant.as_str())
                    .bind(event.subject.as_str())
                    .bind(event.key.as_deref())
                    .bind(event.value.as_str());
            }
            insert.execute(&mut **transaction).await?;
        }
        Ok(())
    }

    /// Tells the relay that there is something to do.
    pub fn committed(&self) {
        self.wake.notify_one();
    }
}

struct Relay {
    outbox: Outbox,
    log: EventLog,
    topics: Topics,
    clock: Clock,
    owner: String,
}

struct Waiting {
    id: String,
    tenant: String,
    subject: String,
    key: Option<String>,
    value: String,
}

impl Relay {
    async fn run(&self) {
        self.outbox.sql.migrated().await;
        let mut backoff = Backoff::default();
        loop {
            match self.relay_all().await {
                Ok(()) => {
                    backoff.reset();
                    // The time-out finds events of an instance that died before it relayed them.
                    let woken = self.outbox.wake.notified();
                    let _ = tokio::time::timeout(Duration::from_secs(1), woken).await;
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "events wait in the outbox");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn relay_all(&self) -> anyhow::Result<()> {
        while self.has_lease().await? {
            let waiting = self.next().await?;
            if waiting.is_empty() {
                break;
            }
            for event in waiting {
                self.relay(event).await?;
            }
        }
        Ok(())
    }

    /// Only the holder of the lease relays, so that two instances do not mix up the order.
    async fn has_lease(&self) -> Result<bool, SqlError> {
        let now = self.clock.now_ms();
        let changed = sqlx::query(
            "INSERT INTO outbox_lease (name, owner, expires_ms) VALUES ('relay', $1, $2)
             ON CONFLICT (name) DO UPDATE SET owner = $1, expires_ms = $2
             WHERE outbox_lease.owner = $1 OR outbox_lease.expires_ms < $3",
        )
        .bind(&self.owner)
        .bind(now + Outbox::LEASE.as_millis() as i64)
        .bind(now)
        .execute(self.outbox.sql.pool()?)
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    async fn give_up_lease(&self) -> Result<(), SqlError> {
        sqlx::query("DELETE FROM outbox_lease WHERE name = 'relay' AND owner = $1")
            .bind(&self.owner)
            .execute(self.outbox.sql.pool()?)
            .await?;
        Ok(())
    }

    async fn next(&self) -> Result<Vec<Waiting>, SqlError> {
        let rows =
            sqlx::query("SELECT id, tenant, subject, record_key, value FROM outbox ORDER BY id LIMIT $1")
                .bind(Outbox::BATCH)
                .fetch_all(self.outbox.sql.pool()?)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(Waiting {
                    id: row.try_get("id")?,
                    tenant: row.try_get("tenant")?,
                    subject: row.try_get("subject")?,
                    key: row.try_get("record_key")?,
                    value: row.try_get("value")?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(SqlError::from)
    }

    async fn relay(&self, event: Waiting) -> anyhow::Result<()> {
        let tenant = Tenant::try_from(event.tenant)?;
        let subject = Subject::parse(&event.subject)?;
        let topic = self.topics.resolve(&tenant, &subject).await?;
        let mut headers = Headers::new();
        headers.push((header::EVENT_ID, Bytes::from(event.id.clone())));
        let record =
            NewRecord { topic, key: event.key.map(Bytes::from), value: Bytes::from(event.value), headers };
        match tokio::time::timeout(Outbox::LEASE / 2, self.log.append(record)).await {
            Ok(Ok(_)) => {}
            // The tenant was removed in the meantime: nobody is left to tell.
            Ok(Err(LogError::UnknownTopic(topic))) => {
                warn!(topic, "an event has lost its topic and is dropped");
                self.topics.forget(&tenant, &subject);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => anyhow::bail!("the log did not take an event in time"),
        }
        sqlx::query("DELETE FROM outbox WHERE id = $1")
            .bind(event.id)
            .execute(self.outbox.sql.pool()?)
            .await?;
        Ok(())
    }
}
