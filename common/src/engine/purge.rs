//! Removing what a relational database keeps of a tenant that is gone, exactly once however many instances try.
//!
//! A late instance must never remove what belongs to a new tenant of the same name. So each removal has a row that is
//! locked during each step and that remembers when the removal is done; and the name is not given to a new tenant before
//! somebody has confirmed that it is done.

use std::pin::Pin;

use sqlx::{Any, Row, Transaction};
use tracing::warn;

use super::{Sql, sql::SqlError};
use crate::{backoff::Backoff, tenancy::Removal, wire::Tenant};

/// Which removals are done. Made at every start, where it is not there yet.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS purges (
    tenant TEXT NOT NULL,
    generation BIGINT NOT NULL,
    done BIGINT NOT NULL,
    PRIMARY KEY (tenant, generation)
);
";

/// One step: removes some rows of the tenant and returns how many.
pub type Step<'t> = Pin<Box<dyn Future<Output = Result<u64, SqlError>> + Send + 't>>;

/// Repeats `step`, each time in a transaction of its own, until it finds nothing more, and removes the tenant's events from
/// the outbox: sent later, they would be about nothing. Tries again for as long as the database is away.
pub async fn purge(
    sql: &Sql,
    removal: &Removal,
    step: impl for<'t> Fn(&'t mut Transaction<'static, Any>, &'t Tenant) -> Step<'t> + Send + Sync,
) {
    let mut backoff = Backoff::default();
    loop {
        match once(sql, removal, &step).await {
            Ok(true) => return,
            Ok(false) => backoff.reset(),
            Err(error) => {
                warn!(?removal, %error, "the data of a removed tenant cannot be removed for the moment");
                backoff.wait().await;
            }
        }
    }
}

/// Returns whether the removal is done.
async fn once(
    sql: &Sql,
    removal: &Removal,
    step: &(impl for<'t> Fn(&'t mut Transaction<'static, Any>, &'t Tenant) -> Step<'t> + Sync),
) -> Result<bool, SqlError> {
    let tenant = removal.tenant();
    let mut transaction = sql.begin().await?;
    if is_done(&mut transaction, tenant, removal.generation()).await? {
        return Ok(true);
    }
    sqlx::query("DELETE FROM outbox WHERE tenant = $1")
        .bind(tenant.as_str())
        .execute(&mut *transaction)
        .await?;
    let is_done = step(&mut transaction, tenant).await? == 0;
    if is_done {
        sqlx::query("UPDATE purges SET done = 1 WHERE tenant = $1 AND generation = $2")
            .bind(tenant.as_str())
            .bind(removal.generation())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(is_done)
}

/// Whether a removal is done. Its row is locked until the transaction ends.
async fn is_done(
    transaction: &mut Transaction<'static, Any>,
    tenant: &Tenant,
    generation: i64,
) -> Result<bool, SqlError> {
    // Changing nothing locks the row.
    let row = sqlx::query(
        "INSERT INTO purges (tenant, generation, done) VALUES ($1, $2, 0)
         ON CONFLICT (tenant, generation) DO UPDATE SET done = purges.done RETURNING done",
    )
    .bind(tenant.as_str())
    .bind(generation)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(row.try_get::<i64, _>(0)? != 0)
}

/// Lets a transaction go on that writes for a user's tenant of this generation, unless what was kept of that tenant has been
/// removed: a request that was on its way meanwhile must not leave anything to the next tenant of the name. Until the
/// transaction ends the removal waits. A service, whose generation is 0, is not concerned.
pub async fn fence(
    transaction: &mut Transaction<'static, Any>,
    tenant: &Tenant,
    generation: i64,
) -> Result<(), SqlError> {
    if generation != 0 && is_done(transaction, tenant, generation).await? {
        return Err(SqlError::TenantGone);
    }
    Ok(())
}
