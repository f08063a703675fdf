//! A change and its event leave together: the event is a row of the same transaction, relayed to the log in order
//! and at least once.
//!
//! Its tables are in the database of every service: `SqlEngine::open` makes them beside those of the service's migrations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};
use tokio::sync::{Notify, mpsc};
use tracing::{error, warn};
use uuid::Uuid;

use super::{
    Sql,
    event_log::{Delivery, DeliverySink, EventLog, Headers, LogError, NewRecord, Position},
    sql::SqlError,
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    shutdown::Shutdown,
    tenancy::Topics,
    wire::{Subject, Tenant, Topic, header},
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
        // The lease is written to the disk: an idle platform only looks.
        if !self.is_anything_waiting().await? {
            return Ok(());
        }
        while self.has_lease().await? {
            let waiting = self.next().await?;
            if waiting.is_empty() {
                break;
            }
            self.relay(&waiting).await?;
        }
        Ok(())
    }

    async fn is_anything_waiting(&self) -> Result<bool, SqlError> {
        let first = sqlx::query("SELECT id FROM outbox LIMIT 1");
        Ok(first.fetch_optional(self.outbox.sql.pool()?).await?.is_some())
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

    /// Hands a batch over in order and then waits for all of it: one wait for the disk, not one per event.
    async fn relay(&self, waiting: &[Waiting]) -> anyhow::Result<()> {
        let (sender, mut reports) = mpsc::unbounded_channel();
        let mut gone = Vec::with_capacity(waiting.len());
        let relay = async {
            let handed_over = self.hand_over(waiting, Arc::new(Reports(sender))).await;
            // Ends when every record has been reported on, for then all senders are gone.
            while let Some((index, result)) = reports.recv().await {
                let Some(event) = waiting.get(index as usize) else { continue };
                if self.is_settled(event, result) {
                    gone.push(event.id.as_str());
                }
            }
            handed_over
        };
        let relayed = tokio::time::timeout(Outbox::LEASE / 2, relay).await;
        self.forget(&gone).await?;
        relayed.map_err(|_| anyhow::anyhow!("the log did not take all events in time"))??;
        anyhow::ensure!(gone.len() == waiting.len(), "the log did not take all events");
        Ok(())
    }

    async fn hand_over(&self, waiting: &[Waiting], sink: Arc<dyn DeliverySink>) -> anyhow::Result<()> {
        for (index, event) in waiting.iter().enumerate() {
            let tenant = Tenant::try_from(event.tenant.clone())?;
            let subject = Subject::parse(&event.subject)?;
            let delivery = Delivery::new(Arc::clone(&sink), index as u64);
            let topic = match self.topics.resolve(&tenant, &subject).await {
                Ok(topic) => topic,
                Err(error) if error.is_gone() => {
                    let nowhere = Topic::new(&tenant, &subject).to_string();
                    delivery.complete(Err(LogError::UnknownTopic(nowhere)));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut headers = Headers::new();
            headers.push((header::EVENT_ID, Bytes::from(event.id.clone())));
            let key = event.key.clone().map(Bytes::from);
            let record = NewRecord { topic, key, value: Bytes::from(event.value.clone()), headers };
            self.log.produce(record, delivery).await;
        }
        Ok(())
    }

    /// Whether an event need not be sent again.
    fn is_settled(&self, event: &Waiting, result: Result<Position, LogError>) -> bool {
        match result {
            Ok(_) => true,
            // The tenant was removed in the meantime: nobody is left to tell.
            Err(LogError::UnknownTopic(topic)) => {
                warn!(topic, "an event has lost its topic and is dropped");
                if let (Ok(tenant), Ok(subject)) =
                    (Tenant::try_from(event.tenant.clone()), Subject::parse(&event.subject))
                {
                    self.topics.forget(&tenant, &subject);
                }
                true
            }
            // It would hold up all others for ever.
            Err(LogError::TooLarge) => {
                error!(
                    event.id,
                    event.tenant, event.subject, "an event is too large for the log and is dropped"
                );
                true
            }
            Err(error) => {
                warn!(event.id, %error, "an event waits in the outbox");
                false
            }
        }
    }

    async fn forget(&self, ids: &[&str]) -> Result<(), SqlError> {
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!("DELETE FROM outbox WHERE id IN ({})", placeholders(0, ids.len()));
        // Made of constants and placeholders.
        let delete = sqlx::query(AssertSqlSafe(sql));
        let delete = ids.iter().fold(delete, |delete, id| delete.bind((*id).to_owned()));
        delete.execute(self.outbox.sql.pool()?).await?;
        Ok(())
    }
}

/// Passes on what became of the records of a batch.
struct Reports(mpsc::UnboundedSender<(u64, Result<Position, LogError>)>);

impl DeliverySink for Reports {
    fn delivered(&self, token: u64, result: Result<Position, LogError>) {
        // Nobody listens any more when the batch took too long.
        let _ = self.0.send((token, result));
    }
}

/// `$3, $4` for two columns after two others.
fn placeholders(before: usize, count: usize) -> String {
    let placeholders: Vec<String> = (before + 1..=before + count).map(|place| format!("${place}")).collect();
    placeholders.join(", ")
}
