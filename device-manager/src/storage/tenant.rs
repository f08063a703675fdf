//! The end of a tenant: everything of it goes, a part at a time.

use common::{
    engine::{purge::purge, sql::SqlError},
    tenancy::Removal,
    wire::Tenant,
};
use sqlx::{Any, Transaction};

use super::Store;

/// Rows that one statement removes.
const BATCH: i64 = 500;

impl Store {
    /// Removes what is kept of a tenant that is gone; tries until it is done.
    pub(crate) async fn remove_tenant(&self, removal: &Removal) {
        purge(&self.sql, removal, |transaction, tenant| Box::pin(remove_some(transaction, tenant))).await;
    }
}

/// Devices before templates, which cannot go while devices use them; the rest goes with these two. The counters stay, so
/// that a new tenant of the same name never gives an identifier a second time.
async fn remove_some(transaction: &mut Transaction<'static, Any>, tenant: &Tenant) -> Result<u64, SqlError> {
    const STEPS: [&str; 2] = [
        "DELETE FROM devices WHERE tenant = $1 AND id IN
             (SELECT id FROM devices WHERE tenant = $1 LIMIT $2)",
        "DELETE FROM templates WHERE tenant = $1 AND id IN
             (SELECT id FROM templates t WHERE t.tenant = $1 AND NOT EXISTS
                 (SELECT 1 FROM device_templates d WHERE d.tenant = $1 AND d.template_id = t.id) LIMIT $2)",
    ];
    for delete in STEPS {
        let done = sqlx::query(delete).bind(tenant.as_str()).bind(BATCH).execute(&mut **transaction).await?;
        if done.rows_affected() > 0 {
            return Ok(done.rows_affected());
        }
    }
    Ok(0)
}
