//! On whose behalf users, groups and permissions are changed, and how far that reaches.

use common::{
    engine::sql::SqlError,
    wire::{
        Tenant,
        event::{
            AuditEvent,
            audit::{AuditAction, AuditSubject, AuditedUser},
        },
    },
};
use serde_json::Value;
use sqlx::Row;

use super::{ChangeError, Tx, tenant_of};
use crate::domain::{
    bootstrap::{ADMIN, ADMIN_GROUP_ID},
    power::{Power, Stake},
    user::Scope,
};

/// Who changes something. What it says is compared with the database in the transaction that makes the change: who was
/// removed while his request was on its way changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Mandate {
    pub(crate) user_id: i64,
    /// Login name, or name of the service.
    pub(crate) user: String,
    pub(crate) tenant: Tenant,
    pub(crate) standing: Standing,
    pub(crate) scope: Scope,
    /// One of our own services: there is no user to look for.
    pub(crate) is_service: bool,
    /// For the audit.
    pub(crate) request_id: Option<String>,
}

impl Mandate {
    /// Whether groups and permissions, which belong to the platform, are his to change, and no rule about what he has
    /// himself binds him.
    pub(crate) fn governs(&self) -> bool {
        self.scope == Scope::AllTenants && self.standing != Standing::Ordinary
    }

    /// What the audit says about a change.
    pub(super) fn audited(
        &self,
        action: AuditAction,
        subject: AuditSubject,
        detail: Value,
        timestamp: i64,
    ) -> AuditEvent {
        let (id, username, tenant) = (self.user_id, self.user.clone(), self.tenant.clone());
        let caller = Some(AuditedUser { id, username, tenant });
        AuditEvent { timestamp, caller, action, subject, detail, request_id: self.request_id.clone() }
    }
}

/// The power of a user over others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not in the group `admin`.
    Ordinary,
    /// In the group `admin`, in any tenant.
    TenantAdmin,
    /// In the group `admin` and in the tenant `admin`.
    PlatformAdmin,
}

/// Tenant and power of a user; `None` when there is no such user.
pub(super) async fn place(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    user: i64,
) -> Result<Option<(Tenant, Standing)>, SqlError> {
    let row = sqlx::query(
        "SELECT u.tenant, COUNT(g.group_id) AS admin FROM users u
         LEFT JOIN user_groups g ON g.user_id = u.id AND g.group_id = $2
         WHERE u.id = $1 GROUP BY u.tenant",
    )
    .bind(user)
    .bind(ADMIN_GROUP_ID)
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let tenant = tenant_of(&row)?;
    let standing = match row.try_get::<i64, _>("admin")? {
        0 => Standing::Ordinary,
        _ if tenant.as_str() == ADMIN => Standing::PlatformAdmin,
        _ => Standing::TenantAdmin,
    };
    Ok(Some((tenant, standing)))
}

/// Keeps users, groups, permissions and the counts of tenants as they are until the transaction ends: two changes that
/// depend on one another must neither cross nor wait for each other for ever.
pub(super) async fn lock(tx: &mut Tx) -> Result<(), SqlError> {
    sqlx::query("UPDATE counters SET value = value WHERE name = 'users'").execute(&mut **tx).await?;
    Ok(())
}

/// Whether a mandate still is what it was when its request began. Call it with the [`lock`], which everybody has who has
/// the next identifier of users.
pub(super) async fn check(tx: &mut Tx, mandate: &Mandate) -> Result<(), ChangeError> {
    if mandate.is_service {
        return Ok(());
    }
    match place(&mut **tx, mandate.user_id).await? {
        Some((tenant, standing)) if tenant == mandate.tenant && standing == mandate.standing => Ok(()),
        _ => Err(ChangeError::MandateEnded),
    }
}

/// What somebody has himself, who does not [govern](Mandate::governs).
pub(super) async fn power(tx: &mut Tx, mandate: &Mandate) -> Result<Power, SqlError> {
    // Services have no permissions.
    let own = if mandate.is_service { Vec::new() } else { stakes_of_user(tx, mandate.user_id).await? };
    Ok(Power {
        is_admin: mandate.standing != Standing::Ordinary,
        is_restricted: own.iter().any(|stake| stake.denies),
        has: own.into_iter().map(|stake| stake.permission).collect(),
    })
}

/// Permissions of a user, those of the groups included.
pub(super) async fn stakes_of_user(tx: &mut Tx, user: i64) -> Result<Vec<Stake>, SqlError> {
    stakes(
        tx,
        "SELECT p.id, p.permission FROM permissions p WHERE p.id IN (
             SELECT permission_id FROM user_permissions WHERE user_id = $1
             UNION SELECT gp.permission_id FROM user_groups ug
             JOIN group_permissions gp ON gp.group_id = ug.group_id WHERE ug.user_id = $1)",
        user,
    )
    .await
}

/// Permissions of a group.
pub(super) async fn stakes_of_group(tx: &mut Tx, group: i64) -> Result<Vec<Stake>, SqlError> {
    stakes(
        tx,
        "SELECT p.id, p.permission FROM permissions p
         JOIN group_permissions gp ON gp.permission_id = p.id WHERE gp.group_id = $1",
        group,
    )
    .await
}

async fn stakes(tx: &mut Tx, query: &'static str, whose: i64) -> Result<Vec<Stake>, SqlError> {
    let rows = sqlx::query(query).bind(whose).fetch_all(&mut **tx).await?;
    let stake = |row: &sqlx::any::AnyRow| {
        Ok(Stake { permission: row.try_get(0)?, denies: row.try_get::<String, _>(1)? == "deny" })
    };
    rows.iter().map(stake).collect()
}

/// Whether somebody may let a user join a group.
pub(super) async fn may_give_group(
    tx: &mut Tx,
    mandate: &Mandate,
    power: &Power,
    group: i64,
) -> Result<bool, SqlError> {
    if mandate.governs() {
        return Ok(true);
    }
    if group == ADMIN_GROUP_ID {
        return Ok(power.is_unlimited());
    }
    Ok(power.covers(&stakes_of_group(tx, group).await?))
}

/// Whether a user is in the group `admin`.
pub(super) async fn is_admin(tx: &mut Tx, user: i64) -> Result<bool, SqlError> {
    let found = sqlx::query("SELECT 1 FROM user_groups WHERE user_id = $1 AND group_id = $2")
        .bind(user)
        .bind(ADMIN_GROUP_ID)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}
