//! Events that leave with a change, and the tenants that come and go with their users.

use common::{
    engine::{
        outbox::{Event, Outbox},
        sql::SqlError,
    },
    wire::{
        Subject, Tenant,
        event::{
            Revocation, TenancyEvent,
            tenancy::TenancyKind::{self, Create, Delete},
        },
    },
};
use serde::Serialize;
use sqlx::Row;

use super::{Tx, unreadable};

/// Counts a user in; with the first the tenant comes into being. The row is locked until the transaction ends, so of
/// two first users one is the second.
pub(super) async fn join_tenant(outbox: &Outbox, tx: &mut Tx, tenant: &Tenant) -> Result<(), SqlError> {
    let row = sqlx::query(
        "INSERT INTO tenants (name, users) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET users = tenants.users + 1 RETURNING users",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **tx)
    .await?;
    if row.try_get::<i64, _>(0)? == 1 { tell(outbox, tx, Create, tenant).await } else { Ok(()) }
}

/// Counts a user out; with the last the tenant is gone.
pub(super) async fn leave_tenant(outbox: &Outbox, tx: &mut Tx, tenant: &Tenant) -> Result<(), SqlError> {
    let row = sqlx::query("UPDATE tenants SET users = users - 1 WHERE name = $1 RETURNING users")
        .bind(tenant.as_str())
        .fetch_one(&mut **tx)
        .await?;
    if row.try_get::<i64, _>(0)? > 0 {
        return Ok(());
    }
    sqlx::query("DELETE FROM tenants WHERE name = $1").bind(tenant.as_str()).execute(&mut **tx).await?;
    tell(outbox, tx, Delete, tenant).await
}

/// Announces that tokens or permissions of a user changed.
pub(super) async fn revocation(outbox: &Outbox, tx: &mut Tx, user: i64, now_ms: i64) -> Result<(), SqlError> {
    let event = Revocation { user_id: Some(user), timestamp: now_ms };
    emit(outbox, tx, Subject::REVOCATION, user.to_string(), &event).await
}

/// Announces that a tenant came or went (dojot-api.md 2.8). The key keeps the order of each tenant.
async fn tell(outbox: &Outbox, tx: &mut Tx, kind: TenancyKind, tenant: &Tenant) -> Result<(), SqlError> {
    let event = TenancyEvent { kind, tenant: tenant.clone() };
    emit(outbox, tx, Subject::TENANCY, tenant.to_string(), &event).await
}

async fn emit(
    outbox: &Outbox,
    tx: &mut Tx,
    subject: Subject,
    key: String,
    event: &impl Serialize,
) -> Result<(), SqlError> {
    let value = serde_json::to_string(event).map_err(unreadable)?;
    outbox.add(tx, Event { tenant: &Tenant::management(), subject, key: Some(key), value }).await
}
