//! The end of a tenant: everything of it goes, a part at a time.

use common::{engine::sql::SqlError, wire::Tenant};
use sqlx::Row;
use uuid::Uuid;

use super::Store;

/// Rows that one statement removes.
const BATCH: i64 = 500;

/// A tenant whose data is to go.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub(crate) tenant: Tenant,
    /// What was created later belongs to a new tenant of the same name and stays.
    until_ms: i64,
}

impl Store {
    /// Notes that the data of a tenant is to go, so that a restart does not forget it. Its events go at once: sent
    /// later, they would bring its topics back.
    pub(crate) async fn note_removal(&self, tenant: &Tenant) -> Result<(), SqlError> {
        // Identifiers of events grow with time, see `Outbox::add`.
        sqlx::query("DELETE FROM outbox WHERE tenant = $1 AND id <= $2")
            .bind(tenant.as_str())
            .bind(Uuid::now_v7().to_string())
            .execute(self.sql.pool()?)
            .await?;
        sqlx::query(
            "INSERT INTO tenant_removals (tenant, until_ms) VALUES ($1, $2)
             ON CONFLICT (tenant) DO UPDATE SET until_ms = excluded.until_ms",
        )
        .bind(tenant.as_str())
        .bind(self.clock.now_ms())
        .execute(self.sql.pool()?)
        .await?;
        Ok(())
    }

    /// Tenants whose data is to go.
    pub(crate) async fn removals(&self) -> Result<Vec<Removal>, SqlError> {
        let rows =
            sqlx::query("SELECT tenant, until_ms FROM tenant_removals").fetch_all(self.sql.pool()?).await?;
        let mut removals = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant: String = row.try_get(0)?;
            if let Ok(tenant) = Tenant::parse(&tenant) {
                removals.push(Removal { tenant, until_ms: row.try_get(1)? });
            }
        }
        Ok(removals)
    }

    /// Removes a part of what is left of a tenant. Returns whether there may be more.
    pub(crate) async fn remove_some(&self, removal: &Removal) -> Result<bool, SqlError> {
        // Devices before templates, which cannot go while devices use them; the rest goes with these two. The
        // counters stay, so that a new tenant of the same name never gives an identifier a second time.
        const OLD: [&str; 2] = [
            "DELETE FROM devices WHERE tenant = $1 AND id IN
                 (SELECT id FROM devices WHERE tenant = $1 AND created_ms <= $2 LIMIT $3)",
            "DELETE FROM templates WHERE tenant = $1 AND id IN
                 (SELECT id FROM templates t WHERE t.tenant = $1 AND t.created_ms <= $2 AND NOT EXISTS
                     (SELECT 1 FROM device_templates d WHERE d.tenant = $1 AND d.template_id = t.id) LIMIT $3)",
        ];
        for delete in OLD {
            let done = sqlx::query(delete)
                .bind(removal.tenant.as_str())
                .bind(removal.until_ms)
                .bind(BATCH)
                .execute(self.sql.pool()?)
                .await?;
            if done.rows_affected() > 0 {
                return Ok(true);
            }
        }
        sqlx::query("DELETE FROM tenant_removals WHERE tenant = $1 AND until_ms = $2")
            .bind(removal.tenant.as_str())
            .bind(removal.until_ms)
            .execute(self.sql.pool()?)
            .await?;
        Ok(false)
    }
}
