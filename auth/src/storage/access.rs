//! What a decision needs to know about a user, in one query.

use common::{
    engine::{Sql, sql::SqlError},
    wire::Tenant,
};
use sqlx::Row;

use super::unreadable;
use crate::domain::decide::{Effect, Grant};

/// A user who holds tokens and permissions.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) tenant: Tenant,
    /// Which of the tenants that have had this name.
    pub(crate) generation: i64,
    pub(crate) username: String,
    pub(crate) credential_key: String,
    pub(crate) grants: Vec<Grant>,
}

#[derive(Clone)]
pub(crate) struct AccessRepository {
    sql: Sql,
}

impl AccessRepository {
    pub(crate) fn new(sql: Sql) -> Self {
        Self { sql }
    }

    /// A user with all permissions, those of its groups included.
    pub(crate) async fn holder(&self, user: i64) -> Result<Option<Holder>, SqlError> {
        holder(self.sql.pool()?, user).await
    }
}

/// A user with all permissions, those of its groups included.
pub(super) async fn holder(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    user: i64,
) -> Result<Option<Holder>, SqlError> {
    let rows = sqlx::query(
        "SELECT u.tenant, t.generation, u.username, u.credential_key, g.path, g.method, g.permission, g.direct
         FROM users u JOIN tenants t ON t.name = u.tenant LEFT JOIN (
             SELECT up.user_id, p.path, p.method, p.permission, 1 AS direct
             FROM user_permissions up JOIN permissions p ON p.id = up.permission_id
             WHERE up.user_id = $1
             UNION
             SELECT ug.user_id, p.path, p.method, p.permission, 0 AS direct
             FROM user_groups ug
             JOIN group_permissions gp ON gp.group_id = ug.group_id
             JOIN permissions p ON p.id = gp.permission_id
             WHERE ug.user_id = $1
         ) g ON g.user_id = u.id
         WHERE u.id = $1",
    )
    .bind(user)
    .fetch_all(executor)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut holder = Holder {
        tenant: Tenant::try_from(first.try_get::<String, _>("tenant")?).map_err(unreadable)?,
        generation: first.try_get("generation")?,
        username: first.try_get("username")?,
        credential_key: first.try_get("credential_key")?,
        grants: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        // A user without permissions is one row of NULLs.
        let Some(permission) = row.try_get::<Option<String>, _>("permission")? else { continue };
        let Some(effect) = Effect::parse(&permission) else { continue };
        let direct: i64 = row.try_get("direct")?;
        let (path, method) = (row.try_get("path")?, row.try_get("method")?);
        holder.grants.push(Grant { path, method, effect, direct: direct == 1 });
    }
    Ok(Some(holder))
}
