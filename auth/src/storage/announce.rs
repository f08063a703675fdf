//! Events that leave with a change.

use common::{
    engine::{
        outbox::{Event, Outbox},
        sql::SqlError,
    },
    wire::{
        Subject, Tenant,
        event::{Revocation, TenancyEvent, tenancy::TenancyKind},
    },
};
use serde::Serialize;

use super::{Tx, unreadable};

/// Announces that tokens or permissions of a user changed.
pub(super) async fn revocation(outbox: &Outbox, tx: &mut Tx, user: i64, now_ms: i64) -> Result<(), SqlError> {
    let event = Revocation { user_id: Some(user), timestamp: now_ms };
    emit(outbox, tx, Subject::REVOCATION, user.to_string(), &event).await
}

/// Announces that a tenant came or went (dojot-api.md 2.8). The key keeps the order of each tenant.
pub(super) async fn tenancy(
    outbox: &Outbox,
    tx: &mut Tx,
    kind: TenancyKind,
    tenant: &Tenant,
) -> Result<(), SqlError> {
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
