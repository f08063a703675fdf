//! What device-manager remembers. [`Store`] reads; a [`Change`] is one transaction on the data of one tenant, in
//! which events leave through the outbox.

mod credential;
mod device;
mod statement;
mod template;
mod tenant;

use common::{
    clock::Clock,
    engine::{
        Sql,
        outbox::{Event, Outbox},
        purge::fence,
        sql::SqlError,
    },
    wire::Tenant,
};
use sqlx::{Any, Row, Transaction, pool::PoolConnection};

pub(crate) use device::{Devices, Selection};

use crate::domain::Ids;

/// The database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    sql: Sql,
    outbox: Outbox,
    clock: Clock,
}

/// A transaction on the data of one tenant. Dropped without a commit, it has done nothing.
pub(crate) struct Change {
    transaction: Transaction<'static, Any>,
    outbox: Outbox,
    tenant: Tenant,
    /// Which of the tenants that have had this name.
    generation: i64,
    ids: Ids,
    /// When the change happens.
    pub(crate) now_ms: i64,
}

impl Store {
    pub(crate) fn new(sql: Sql, outbox: Outbox, clock: Clock) -> Self {
        Self { sql, outbox, clock }
    }

    /// Begins a change that locks the tenant: changes of one tenant happen one after the other.
    ///
    /// Rules that span rows (no label twice on a device, no event that overtakes another of the same device) hold
    /// without further thought, and tenants do not wait for each other.
    pub(crate) async fn change(&self, tenant: &Tenant, generation: i64) -> Result<Change, SqlError> {
        let mut change = self.change_without_lock(tenant, generation).await?;
        let row = sqlx::query(
            "INSERT INTO counters (tenant, last_template_id, last_attr_id) VALUES ($1, 0, 0)
             ON CONFLICT (tenant) DO UPDATE SET last_attr_id = counters.last_attr_id
             RETURNING last_template_id, last_attr_id",
        )
        .bind(tenant.as_str())
        .fetch_one(&mut *change.transaction)
        .await?;
        change.ids = Ids { last_template: row.try_get(0)?, last_attr: row.try_get(1)? };
        Ok(change)
    }

    /// Begins a change that only adds an event.
    pub(crate) async fn change_without_lock(
        &self,
        tenant: &Tenant,
        generation: i64,
    ) -> Result<Change, SqlError> {
        let mut transaction = self.sql.begin().await?;
        fence(&mut transaction, tenant, generation).await?;
        Ok(Change {
            transaction,
            outbox: self.outbox.clone(),
            tenant: tenant.clone(),
            generation,
            ids: Ids { last_template: 0, last_attr: 0 },
            now_ms: self.clock.now_ms(),
        })
    }

    async fn connection(&self) -> Result<PoolConnection<Any>, SqlError> {
        Ok(self.sql.pool()?.acquire().await?)
    }
}

impl Change {
    /// Whose data changes.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Adds events, in order.
    pub(crate) async fn publish(&mut self, events: Vec<Event<'_>>) -> Result<(), SqlError> {
        self.outbox.add_all(&mut self.transaction, events).await
    }

    /// Makes the change and its events durable, and has the events sent.
    pub(crate) async fn commit(self) -> Result<(), SqlError> {
        self.transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }
}
