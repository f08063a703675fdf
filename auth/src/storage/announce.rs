//! Events that leave with a change.

use common::{
    engine::{
        outbox::{Event, Outbox},
        sql::SqlError,
    },
    wire::{
        Subject, Tenant,
        event::{AuditEvent, Revocation, TenancyEvent, audit::AuditedUser, tenancy::TenancyKind},
    },
};
use serde::Serialize;

use super::{Tx, unreadable};
use crate::domain::user::User;

/// Announces that the tokens of a user ended.
pub(super) async fn tokens_ended(
    outbox: &Outbox,
    tx: &mut Tx,
    user: i64,
    now_ms: i64,
) -> Result<(), SqlError> {
    let event = Revocation { user_id: Some(user), timestamp: now_ms, keeps_tokens: false };
    emit(outbox, tx, Subject::REVOCATION, user.to_string(), &event).await
}

/// Announces that the tokens of many users ended.
pub(super) async fn tokens_of_many_ended(
    outbox: &Outbox,
    tx: &mut Tx,
    users: &[i64],
    now_ms: i64,
) -> Result<(), SqlError> {
    let management = Tenant::management();
    let event = |user: &i64| {
        let event = Revocation { user_id: Some(*user), timestamp: now_ms, keeps_tokens: false };
        let value = serde_json::to_string(&event).map_err(unreadable)?;
        Ok(Event { tenant: &management, subject: Subject::REVOCATION, key: Some(user.to_string()), value })
    };
    let events: Vec<Event<'_>> = users.iter().map(event).collect::<Result<_, SqlError>>()?;
    outbox.add_all(tx, events).await
}

/// Announces that what a user may do changed, or everybody; the tokens stay good.
pub(super) async fn rights_changed(
    outbox: &Outbox,
    tx: &mut Tx,
    user: Option<i64>,
    now_ms: i64,
) -> Result<(), SqlError> {
    let event = Revocation { user_id: user, timestamp: now_ms, keeps_tokens: true };
    emit(outbox, tx, Subject::REVOCATION, user.unwrap_or_default().to_string(), &event).await
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

/// Records an administrative change.
pub(super) async fn audit(outbox: &Outbox, tx: &mut Tx, event: &AuditEvent) -> Result<(), SqlError> {
    let whose = event.caller.as_ref().or(event.subject.user.as_ref());
    let key = whose.map_or_else(String::new, |user| user.tenant.to_string());
    emit(outbox, tx, Subject::AUDIT, key, event).await
}

/// A user as the audit names him.
pub(super) fn audited(user: &User) -> AuditedUser {
    AuditedUser { id: user.id, username: user.username.clone(), tenant: user.tenant.clone() }
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
