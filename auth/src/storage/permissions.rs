//! Permissions.

use common::{
    engine::sql::SqlError,
    wire::event::audit::{AuditAction, AuditSubject, AuditedThing},
};
use serde_json::{Value, json};
use sqlx::{Row, any::AnyRow};

use super::{ChangeError, Mandate, Rights, Thing, Tx, next_id};
use crate::domain::{
    permission::{NewPermission, Permission, PermissionFilter, Terms},
    user::Reference,
};

/// The statement that reads permissions, `p`; what follows says which.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT p.id, p.name, p.path, p.method, p.permission, p.type, p.created_ms, p.created_by
             FROM permissions p ",
            $which
        )
    };
}

/// Permissions belong to the platform. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PermissionRepository {
    rights: Rights,
}

impl PermissionRepository {
    const MOST: i64 = 10_000;

    pub(crate) fn new(rights: Rights) -> Self {
        Self { rights }
    }

    /// Permissions that a filter lets through, by identifier.
    pub(crate) async fn list(&self, filter: &PermissionFilter) -> Result<Vec<Permission>, SqlError> {
        let rows = sqlx::query(select!(
            "WHERE ($1 = '' OR REPLACE(path, $1, '') <> path) AND ($2 = '' OR REPLACE(method, $2, '') <> method)
             AND ($3 = '' OR permission = $3) AND ($4 = '' OR type = $4) ORDER BY id"
        ))
        .bind(&filter.path)
        .bind(&filter.method)
        .bind(&filter.effect)
        .bind(&filter.kind)
        .fetch_all(self.rights.sql.pool()?)
        .await?;
        rows.iter().map(permission).collect()
    }

    /// Permissions of a group, by identifier.
    pub(crate) async fn of_group(&self, group: i64) -> Result<Vec<Permission>, SqlError> {
        self.of(
            select!(
                "JOIN group_permissions gp ON gp.permission_id = p.id WHERE gp.group_id = $1 ORDER BY p.id"
            ),
            group,
        )
        .await
    }

    /// Permissions that a user has directly, by identifier.
    pub(crate) async fn directly_of_user(&self, user: i64) -> Result<Vec<Permission>, SqlError> {
        self.of(
            select!(
                "JOIN user_permissions up ON up.permission_id = p.id WHERE up.user_id = $1 ORDER BY p.id"
            ),
            user,
        )
        .await
    }

    /// Permissions that a user has directly and through groups, each once, by identifier.
    pub(crate) async fn of_user(&self, user: i64) -> Result<Vec<Permission>, SqlError> {
        self.of(
            select!(
                "WHERE p.id IN (SELECT permission_id FROM user_permissions WHERE user_id = $1
                     UNION SELECT gp.permission_id FROM user_groups ug
                     JOIN group_permissions gp ON gp.group_id = ug.group_id WHERE ug.user_id = $1) ORDER BY p.id"
            ),
            user,
        )
        .await
    }

    async fn of(&self, query: &'static str, whose: i64) -> Result<Vec<Permission>, SqlError> {
        let rows = sqlx::query(query).bind(whose).fetch_all(self.rights.sql.pool()?).await?;
        rows.iter().map(permission).collect()
    }

    /// The permission that a path names.
    pub(crate) async fn find(&self, what: &Reference) -> Result<Option<Permission>, SqlError> {
        let query = match what {
            Reference::Id(id) => sqlx::query(select!("WHERE id = $1")).bind(*id),
            Reference::Name(name) => sqlx::query(select!("WHERE name = $1")).bind(name.clone()),
        };
        query.fetch_optional(self.rights.sql.pool()?).await?.as_ref().map(permission).transpose()
    }

    /// Creates a permission; returns its identifier.
    pub(crate) async fn insert(&self, mandate: &Mandate, new: &NewPermission) -> Result<i64, ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let taken = sqlx::query("SELECT id FROM permissions WHERE name = $1").bind(&new.name);
        if taken.fetch_optional(&mut *change.tx).await?.is_some() {
            return Err(ChangeError::NameTaken);
        }
        let count = sqlx::query("SELECT COUNT(*) FROM permissions").fetch_one(&mut *change.tx).await?;
        if count.try_get::<i64, _>(0)? >= Self::MOST {
            return Err(ChangeError::TooMany);
        }
        let id = next_id(&mut change.tx, "permissions").await?;
        sqlx::query(
            "INSERT INTO permissions (id, name, path, method, permission, type, created_ms, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(&new.name)
        .bind(&new.terms.path)
        .bind(&new.terms.method)
        .bind(&new.terms.effect)
        .bind(&new.terms.kind)
        .bind(change.now_ms)
        .bind(mandate.user_id)
        .execute(&mut *change.tx)
        .await?;
        change.commit(AuditAction::PermissionCreate, subject(id, &new.name), detail(&new.terms)).await?;
        Ok(id)
    }

    /// Changes what a permission says, for all who have it.
    pub(crate) async fn update(&self, mandate: &Mandate, id: i64, to: &Terms) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let from = permission_in(&mut change.tx, id).await?;
        sqlx::query(
            "UPDATE permissions SET path = $1, method = $2, permission = $3, type = $4 WHERE id = $5",
        )
        .bind(&to.path)
        .bind(&to.method)
        .bind(&to.effect)
        .bind(&to.kind)
        .bind(id)
        .execute(&mut *change.tx)
        .await?;
        change.rights_changed(None).await?;
        change.commit(AuditAction::PermissionUpdate, subject(id, &from.name), detail(to)).await
    }

    /// Removes a permission, from all who have it.
    pub(crate) async fn delete(&self, mandate: &Mandate, id: i64) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let gone = permission_in(&mut change.tx, id).await?;
        sqlx::query("DELETE FROM permissions WHERE id = $1").bind(id).execute(&mut *change.tx).await?;
        change.rights_changed(None).await?;
        change.commit(AuditAction::PermissionRemove, subject(id, &gone.name), detail(&gone.terms)).await
    }
}

pub(super) async fn permission_in(tx: &mut Tx, id: i64) -> Result<Permission, ChangeError> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id).fetch_optional(&mut **tx).await?;
    Ok(permission(&row.ok_or(ChangeError::Unknown(Thing::Permission))?)?)
}

fn subject(id: i64, name: &str) -> AuditSubject {
    let permission = AuditedThing { id, name: name.to_owned() };
    AuditSubject { permission: Some(permission), ..AuditSubject::default() }
}

fn detail(terms: &Terms) -> Value {
    json!({ "path": terms.path, "method": terms.method, "permission": terms.effect, "type": terms.kind })
}

fn permission(row: &AnyRow) -> Result<Permission, SqlError> {
    Ok(Permission {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        terms: Terms {
            path: row.try_get("path")?,
            method: row.try_get("method")?,
            effect: row.try_get("permission")?,
            kind: row.try_get("type")?,
        },
        created_ms: row.try_get("created_ms")?,
        created_by: row.try_get("created_by")?,
    })
}
