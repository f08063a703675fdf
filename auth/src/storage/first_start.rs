//! Writes what is there at the first start.

use common::{
    clock::Clock,
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::Tenant,
};

use super::{ChangeError, TenantRepository, Tx, next_id, unreadable, users::insert_row};
use crate::domain::{
    bootstrap::{ADMIN, ADMIN_GROUP, ADMIN_GROUP_ID, GROUP_PERMISSIONS, GROUPS, NOBODYS_EMAIL, PERMISSIONS},
    user::User,
};

/// Creator of what nobody created.
const NOBODY: i64 = 0;

#[derive(Clone)]
pub(crate) struct FirstStartRepository {
    sql: Sql,
    outbox: Outbox,
    tenants: TenantRepository,
    clock: Clock,
}

impl FirstStartRepository {
    pub(crate) fn new(sql: Sql, outbox: Outbox, tenants: TenantRepository, clock: Clock) -> Self {
        Self { sql, outbox, tenants, clock }
    }

    /// Waits until the tables are there.
    pub(crate) async fn migrated(&self) {
        self.sql.migrated().await;
    }

    /// Whether the first start is over.
    pub(crate) async fn is_done(&self) -> Result<bool, SqlError> {
        let done = sqlx::query("SELECT value FROM counters WHERE name = 'first start'");
        Ok(done.fetch_optional(self.sql.pool()?).await?.is_some())
    }

    /// Whether the user `admin` has the password of this hash.
    pub(crate) async fn is_password_of_admin(&self, hash: &str) -> Result<bool, SqlError> {
        let found = sqlx::query("SELECT id FROM users WHERE username = $1 AND password_hash = $2")
            .bind(ADMIN)
            .bind(hash)
            .fetch_optional(self.sql.pool()?)
            .await?;
        Ok(found.is_some())
    }

    /// Writes groups, permissions and the first user, unless another instance has.
    pub(crate) async fn run(&self, password_hash: &str) -> Result<(), ChangeError> {
        let mut tx = self.sql.begin().await?;
        // Of two instances that start together the second waits here until the first has committed.
        let mine = sqlx::query(
            "INSERT INTO counters (name, value) VALUES ('first start', 1) ON CONFLICT DO NOTHING",
        )
        .execute(&mut *tx)
        .await?;
        if mine.rows_affected() == 0 {
            return Ok(());
        }
        let now = self.clock.now_ms();
        insert_groups(&mut tx, now).await?;
        insert_permissions(&mut tx, now).await?;
        relate(&mut tx).await?;
        self.insert_admin(&mut tx, now, password_hash).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    async fn insert_admin(&self, tx: &mut Tx, now: i64, password_hash: &str) -> Result<(), ChangeError> {
        let admin = User {
            id: next_id(tx, "users").await?,
            username: ADMIN.to_owned(),
            name: "Admin (superuser)".to_owned(),
            tenant: Tenant::parse(ADMIN).map_err(unreadable)?,
            email: NOBODYS_EMAIL.to_owned(),
            profile: ADMIN_GROUP.to_owned(),
            created_ms: now,
            created_by: NOBODY,
        };
        insert_row(tx, &admin, Some(password_hash)).await?;
        sqlx::query("INSERT INTO user_groups (user_id, group_id) VALUES ($1, $2)")
            .bind(admin.id)
            .bind(ADMIN_GROUP_ID)
            .execute(&mut **tx)
            .await?;
        self.tenants.join(&self.outbox, tx, &admin.tenant).await
    }
}

async fn insert_groups(tx: &mut Tx, now: i64) -> Result<(), SqlError> {
    for (name, description) in GROUPS {
        sqlx::query(
            "INSERT INTO groups (id, name, description, created_ms, created_by) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(next_id(tx, "groups").await?)
        .bind(name)
        .bind(description)
        .bind(now)
        .bind(NOBODY)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn insert_permissions(tx: &mut Tx, now: i64) -> Result<(), SqlError> {
    for permission in PERMISSIONS {
        sqlx::query(
            "INSERT INTO permissions (id, name, path, method, permission, type, created_ms, created_by)
             VALUES ($1, $2, $3, $4, 'permit', 'system', $5, $6)",
        )
        .bind(next_id(tx, "permissions").await?)
        .bind(permission.name)
        .bind(permission.path)
        .bind(permission.method)
        .bind(now)
        .bind(NOBODY)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn relate(tx: &mut Tx) -> Result<(), SqlError> {
    for (group, permissions) in GROUP_PERMISSIONS {
        for permission in permissions {
            sqlx::query(
                "INSERT INTO group_permissions (group_id, permission_id)
                 SELECT g.id, p.id FROM groups g, permissions p WHERE g.name = $1 AND p.name = $2",
            )
            .bind(group)
            .bind(*permission)
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
}
