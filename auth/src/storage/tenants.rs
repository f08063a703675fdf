//! Tenants: they come with their first user and go with their last, or come and go on purpose.
//!
//! A tenant that goes is recorded once for every service that keeps data of tenants, and its name is not given again
//! before all of them have confirmed that they keep nothing more.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::{
        Tenant,
        event::tenancy::TenancyKind::{Create, Delete},
    },
};
use serde::Serialize;
use sqlx::{Row, any::AnyRow};

use super::{ChangeError, Tx, announce, next_id};
use crate::domain::user::Scope;

/// Tenants and what is left of those that are gone. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TenantRepository {
    sql: Sql,
    /// Services that have to confirm a removal.
    keepers: Arc<[String]>,
}

/// A tenant that exists.
#[derive(Debug, Serialize)]
pub(crate) struct Existing {
    #[serde(rename = "tenant")]
    pub(crate) name: String,
    /// How many users it has.
    pub(crate) users: i64,
    /// Whether it was made on purpose and stays without users.
    pub(crate) stays: bool,
    #[serde(skip)]
    pub(crate) generation: i64,
}

/// A tenant that is gone and of which some services still keep data.
#[derive(Debug, Serialize)]
pub(crate) struct Removal {
    pub(crate) tenant: String,
    pub(crate) generation: i64,
    pub(crate) services: Vec<String>,
}

impl TenantRepository {
    pub(crate) fn new(sql: Sql, keepers: &[String]) -> Self {
        Self { sql, keepers: keepers.into() }
    }

    /// The tenants of a scope, by name.
    pub(crate) async fn list(&self, scope: &Scope) -> Result<Vec<Existing>, SqlError> {
        let rows = sqlx::query(
            "SELECT name, users, stays, generation FROM tenants WHERE $1 = '' OR name = $1 ORDER BY name",
        )
        .bind(scope.filter())
        .fetch_all(self.sql.pool()?)
        .await?;
        let existing = |row: &AnyRow| -> Result<Existing, SqlError> {
            Ok(Existing {
                name: row.try_get("name")?,
                users: row.try_get("users")?,
                stays: row.try_get::<i64, _>("stays")? != 0,
                generation: row.try_get("generation")?,
            })
        };
        rows.iter().map(existing).collect()
    }

    /// Removals in a scope that are not confirmed by all, by name.
    pub(crate) async fn removals(&self, scope: &Scope) -> Result<Vec<Removal>, SqlError> {
        let rows = sqlx::query(
            "SELECT tenant, generation, service FROM tenant_removals WHERE $1 = '' OR tenant = $1
             ORDER BY tenant, service",
        )
        .bind(scope.filter());
        let mut removals = BTreeMap::<(String, i64), Vec<String>>::new();
        for row in rows.fetch_all(self.sql.pool()?).await? {
            removals.entry((row.try_get(0)?, row.try_get(1)?)).or_default().push(row.try_get(2)?);
        }
        let removal = |((tenant, generation), services)| Removal { tenant, generation, services };
        Ok(removals.into_iter().map(removal).collect())
    }

    /// Services that keep data of a former tenant of this name.
    pub(crate) async fn waiting_for(&self, tenant: &Tenant) -> Result<Vec<String>, SqlError> {
        let rows = sqlx::query("SELECT service FROM tenant_removals WHERE tenant = $1 ORDER BY service")
            .bind(tenant.as_str())
            .fetch_all(self.sql.pool()?)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Notes that a service keeps nothing more of a tenant that is gone. To confirm twice is no harm.
    pub(crate) async fn confirm(
        &self,
        tenant: &Tenant,
        generation: i64,
        service: &str,
    ) -> Result<(), SqlError> {
        sqlx::query("DELETE FROM tenant_removals WHERE tenant = $1 AND generation = $2 AND service = $3")
            .bind(tenant.as_str())
            .bind(generation)
            .bind(service)
            .execute(self.sql.pool()?)
            .await?;
        Ok(())
    }

    /// Counts a user in; with the first the tenant comes into being. The row is locked until the transaction ends, so of
    /// two first users one is the second.
    pub(super) async fn join(
        &self,
        outbox: &Outbox,
        tx: &mut Tx,
        tenant: &Tenant,
    ) -> Result<(), ChangeError> {
        let row = sqlx::query(
            "INSERT INTO tenants (name, users, stays, generation) VALUES ($1, 1, 0, 0)
             ON CONFLICT (name) DO UPDATE SET users = tenants.users + 1 RETURNING generation",
        )
        .bind(tenant.as_str())
        .fetch_one(&mut **tx)
        .await?;
        if row.try_get::<i64, _>(0)? == 0 {
            self.begin(outbox, tx, tenant).await?;
        }
        Ok(())
    }

    /// Makes a tenant that stays without users. Tells whether there was none of this name.
    pub(super) async fn found(
        &self,
        outbox: &Outbox,
        tx: &mut Tx,
        tenant: &Tenant,
    ) -> Result<bool, ChangeError> {
        let made = sqlx::query(
            "INSERT INTO tenants (name, users, stays, generation) VALUES ($1, 0, 1, 0) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .execute(&mut **tx)
        .await?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        self.begin(outbox, tx, tenant).await?;
        Ok(true)
    }

    /// Gives a new tenant its generation and announces it, unless one of its name is still being removed.
    async fn begin(&self, outbox: &Outbox, tx: &mut Tx, tenant: &Tenant) -> Result<(), ChangeError> {
        let left = sqlx::query("SELECT service FROM tenant_removals WHERE tenant = $1").bind(tenant.as_str());
        if left.fetch_optional(&mut **tx).await?.is_some() {
            return Err(ChangeError::TenantIsBeingRemoved);
        }
        let generation = next_id(tx, "tenants").await?;
        sqlx::query("UPDATE tenants SET generation = $1 WHERE name = $2")
            .bind(generation)
            .bind(tenant.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(announce::tenancy(outbox, tx, Create, tenant).await?)
    }

    /// Counts a user out; with the last the tenant is gone.
    pub(super) async fn leave(&self, outbox: &Outbox, tx: &mut Tx, tenant: &Tenant) -> Result<(), SqlError> {
        let row = sqlx::query("UPDATE tenants SET users = users - 1 WHERE name = $1 RETURNING users + stays")
            .bind(tenant.as_str())
            .fetch_one(&mut **tx)
            .await?;
        if row.try_get::<i64, _>(0)? > 0 {
            return Ok(());
        }
        self.end(outbox, tx, tenant).await?;
        Ok(())
    }

    /// Ends a tenant without users: records what has to be removed and by whom. Tells whether there was one.
    pub(super) async fn end(&self, outbox: &Outbox, tx: &mut Tx, tenant: &Tenant) -> Result<bool, SqlError> {
        let ended = sqlx::query("DELETE FROM tenants WHERE name = $1 RETURNING generation")
            .bind(tenant.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        let Some(ended) = ended else { return Ok(false) };
        let generation: i64 = ended.try_get(0)?;
        for service in &*self.keepers {
            sqlx::query("INSERT INTO tenant_removals (tenant, generation, service) VALUES ($1, $2, $3)")
                .bind(tenant.as_str())
                .bind(generation)
                .bind(service)
                .execute(&mut **tx)
                .await?;
        }
        announce::tenancy(outbox, tx, Delete, tenant).await?;
        Ok(true)
    }
}
