//! A change and its event leave together: the event is a row of the same transaction, relayed to the log in the order
//! of its tenant and at least once.
//!
//! Its tables are in the database of every service: `SqlEngine::open` makes them beside those of the service's migrations.

mod relay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use sqlx::{Any, AssertSqlSafe, Transaction};
use tokio::sync::Notify;
use uuid::Uuid;

use self::relay::Relay;
use super::{Sql, event_log::EventLog, sql::SqlError};
use crate::{
    clock::Clock,
    shutdown::Shutdown,
    tenancy::Topics,
    wire::{Subject, Tenant},
};

/// The tables of an outbox. They are made at every start, where they are not there yet.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS outbox (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    record_key TEXT,
    value TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_by_tenant ON outbox (tenant, id);
CREATE TABLE IF NOT EXISTS outbox_lease (
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
    const BATCH: usize = 256;

    /// The outbox in the database of a service; starts the task that relays it.
    pub fn start(sql: Sql, log: EventLog, topics: Topics, clock: Clock, shutdown: &Shutdown) -> Self {
        let outbox = Self { sql, wake: Arc::new(Notify::new()) };
        let relay = Relay::new(outbox.clone(), log, topics, clock);
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
        for events in events.chunks(Self::BATCH) {
            let row = |row: usize| format!("({})", placeholders(row * 5, 5));
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

/// `$3, $4` for two columns after two others.
fn placeholders(before: usize, count: usize) -> String {
    let placeholders: Vec<String> = (before + 1..=before + count).map(|place| format!("${place}")).collect();
    placeholders.join(", ")
}
