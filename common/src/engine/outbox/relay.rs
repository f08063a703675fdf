//! Carries events from the outbox to the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, any::AnyRow};
use tokio::sync::mpsc;
use tracing::{error, warn};
use uuid::Uuid;

use super::{Outbox, placeholders};
use crate::{
    backoff::Backoff,
    clock::Clock,
    engine::{
        event_log::{Delivery, DeliverySink, EventLog, Headers, LogError, NewRecord, Position},
        sql::SqlError,
    },
    tenancy::Topics,
    wire::{Subject, Tenant, Topic, header},
};

pub(super) struct Relay {
    outbox: Outbox,
    log: EventLog,
    topics: Topics,
    clock: Clock,
    owner: String,
    /// The tenant whose turn was last.
    last: Mutex<String>,
}

struct Waiting {
    id: String,
    tenant: String,
    subject: String,
    key: Option<String>,
    value: String,
}

/// How a look into the outbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing, or nothing any more.
    Empty,
    /// There is something, and another instance has the lease: it may just have looked for the last time.
    Elsewhere,
}

impl Look {
    fn again_after(self) -> Duration {
        match self {
            // Finds events of an instance that died before it relayed them.
            Self::Empty => Duration::from_secs(1),
            Self::Elsewhere => Duration::from_millis(50),
        }
    }
}

impl Relay {
    /// How long others wait for an instance that is gone.
    const LEASE: Duration = Duration::from_secs(3);
    /// The holder renews it meanwhile.
    const RENEW: Duration = Duration::from_secs(1);
    /// Tenants that take part in one batch.
    const TENANTS: usize = 16;

    pub(super) fn new(outbox: Outbox, log: EventLog, topics: Topics, clock: Clock) -> Self {
        Self { outbox, log, topics, clock, owner: Uuid::new_v4().to_string(), last: Mutex::default() }
    }

    pub(super) async fn run(&self) {
        self.outbox.sql.migrated().await;
        let mut backoff = Backoff::default();
        if self.outbox.sql.is_ours_alone() {
            // Whoever held it was an earlier process, and is gone.
            while let Err(error) = self.end_lease().await {
                warn!(%error, "the outbox cannot be taken over yet");
                backoff.wait().await;
            }
        }
        loop {
            match self.relay_all().await {
                Ok(look) => {
                    backoff.reset();
                    let woken = self.outbox.wake.notified();
                    let _ = tokio::time::timeout(look.again_after(), woken).await;
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "events wait in the outbox");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn relay_all(&self) -> anyhow::Result<Look> {
        // The lease is written to the disk: an idle platform only looks.
        if !self.is_anything_waiting().await? {
            return Ok(Look::Empty);
        }
        while self.has_lease().await? {
            let waiting = self.next().await?;
            if waiting.is_empty() {
                // What another instance writes next it need not wait to relay.
                if !self.outbox.sql.is_ours_alone() {
                    self.give_up_lease().await?;
                }
                return Ok(Look::Empty);
            }
            self.relay(&waiting).await?;
        }
        Ok(Look::Elsewhere)
    }

    async fn is_anything_waiting(&self) -> Result<bool, SqlError> {
        let first = sqlx::query("SELECT id FROM outbox LIMIT 1");
        Ok(first.fetch_optional(self.outbox.sql.pool()?).await?.is_some())
    }

    /// Only the holder of the lease relays, so that two instances do not mix up the order. Takes or renews it.
    async fn has_lease(&self) -> Result<bool, SqlError> {
        let now = self.clock.now_ms();
        let changed = sqlx::query(
            "INSERT INTO outbox_lease (name, owner, expires_ms) VALUES ('relay', $1, $2)
             ON CONFLICT (name) DO UPDATE SET owner = $1, expires_ms = $2
             WHERE outbox_lease.owner = $1 OR outbox_lease.expires_ms < $3",
        )
        .bind(&self.owner)
        .bind(now + Self::LEASE.as_millis() as i64)
        .bind(now)
        .execute(self.outbox.sql.pool()?)
        .await?;
        Ok(changed.rows_affected() > 0)
    }

    pub(super) async fn give_up_lease(&self) -> Result<(), SqlError> {
        sqlx::query("DELETE FROM outbox_lease WHERE name = 'relay' AND owner = $1")
            .bind(&self.owner)
            .execute(self.outbox.sql.pool()?)
            .await?;
        Ok(())
    }

    async fn end_lease(&self) -> Result<(), SqlError> {
        sqlx::query("DELETE FROM outbox_lease").execute(self.outbox.sql.pool()?).await?;
        Ok(())
    }

    /// The next events: tenants take turns, so that one with many events does not keep the others waiting.
    async fn next(&self) -> Result<Vec<Waiting>, SqlError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tenants = self.tenants_after(&last).await?;
        if tenants.len() < Self::TENANTS && !last.is_empty() {
            let before = self.tenants_after("").await?.into_iter().filter(|tenant| *tenant <= last);
            tenants.extend(before.take(Self::TENANTS - tenants.len()));
        }
        let share = Outbox::BATCH / tenants.len().max(1);
        let mut waiting = Vec::with_capacity(Outbox::BATCH);
        for tenant in &tenants {
            waiting.extend(self.next_of(tenant, share).await?);
        }
        if let Some(tenant) = tenants.pop() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = tenant;
        }
        Ok(waiting)
    }

    /// Tenants with events, in their order behind one of them. Each costs one look into the index, however many events
    /// it has.
    async fn tenants_after(&self, last: &str) -> Result<Vec<String>, SqlError> {
        let rows = sqlx::query(
            "WITH RECURSIVE waiting (tenant) AS (
                 SELECT MIN(tenant) FROM outbox WHERE tenant > $1
                 UNION ALL
                 SELECT (SELECT MIN(tenant) FROM outbox WHERE tenant > waiting.tenant)
                 FROM waiting WHERE waiting.tenant IS NOT NULL)
             SELECT tenant FROM waiting WHERE tenant IS NOT NULL LIMIT $2",
        )
        .bind(last)
        .bind(Self::TENANTS as i64)
        .fetch_all(self.outbox.sql.pool()?)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn next_of(&self, tenant: &str, most: usize) -> Result<Vec<Waiting>, SqlError> {
        let rows = sqlx::query(
            "SELECT id, tenant, subject, record_key, value FROM outbox WHERE tenant = $1 ORDER BY id LIMIT $2",
        )
        .bind(tenant)
        .bind(most as i64)
        .fetch_all(self.outbox.sql.pool()?)
        .await?;
        rows.iter().map(waiting).collect()
    }

    /// Hands a batch over in order and then waits for all of it: one wait for the disk, not one per event. Nothing is handed
    /// over a second time while the log still has it, however long it is away.
    async fn relay(&self, waiting: &[Waiting]) -> anyhow::Result<()> {
        let gone = Mutex::new(Vec::with_capacity(waiting.len()));
        let relayed = tokio::select! {
            relayed = self.hand_over_and_wait(waiting, &gone) => relayed,
            ended = self.keep_lease() => ended,
        };
        let gone = gone.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.forget(&gone).await?;
        relayed?;
        anyhow::ensure!(gone.len() == waiting.len(), "the log did not take all events");
        Ok(())
    }

    async fn hand_over_and_wait<'a>(
        &self,
        waiting: &'a [Waiting],
        gone: &Mutex<Vec<&'a str>>,
    ) -> anyhow::Result<()> {
        let (sender, mut reports) = mpsc::unbounded_channel();
        let handed_over = self.hand_over(waiting, Arc::new(Reports(sender))).await;
        // Ends when every record has been reported on, for then all senders are gone.
        while let Some((index, result)) = reports.recv().await {
            let Some(event) = waiting.get(index as usize) else { continue };
            if self.is_settled(event, result) {
                gone.lock().unwrap_or_else(PoisonError::into_inner).push(event.id.as_str());
            }
        }
        handed_over
    }

    /// Renews the lease; ends when another instance has it.
    async fn keep_lease(&self) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(Self::RENEW);
        loop {
            every.tick().await;
            let has_lease = self.has_lease().await.context("cannot renew the lease")?;
            anyhow::ensure!(has_lease, "another instance relays now");
        }
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
                let Waiting { id, tenant, subject, .. } = event;
                error!(event.id = id, tenant, subject, "an event is too large for the log and is dropped");
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
        // Nobody listens any more when another instance has taken over.
        let _ = self.0.send((token, result));
    }
}

fn waiting(row: &AnyRow) -> Result<Waiting, SqlError> {
    Ok(Waiting {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        subject: row.try_get("subject")?,
        key: row.try_get("record_key")?,
        value: row.try_get("value")?,
    })
}
