//! Users, and the tenants that come and go with them.

use common::{
    clock::Clock,
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::Tenant,
};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};

use super::{TenantRepository, Tx, announce, ids, next_id, unreadable};
use crate::domain::{
    bootstrap::{ADMIN, ADMIN_GROUP_ID},
    secret::credential_key,
    user::{Details, NewUser, Reference, Scope, User, group_name},
};

/// Why a user was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("the user name is in use")]
    UsernameTaken,
    #[error("the e-mail address is in use")]
    EmailTaken,
    #[error("there is no such user")]
    Unknown,
    #[error("a former tenant of this name is still being removed")]
    TenantIsBeingRemoved,
    /// Who asks was removed, moved or lost power since the request began.
    #[error("who asks may not do this any more")]
    MandateEnded,
    #[error(transparent)]
    Storage(SqlError),
}

impl From<SqlError> for UserError {
    fn from(error: SqlError) -> Self {
        match &error {
            SqlError::Constraint { constraint } if constraint.contains("email") => Self::EmailTaken,
            SqlError::Constraint { constraint } if constraint.contains("username") => Self::UsernameTaken,
            _ => Self::Storage(error),
        }
    }
}

impl From<sqlx::Error> for UserError {
    fn from(error: sqlx::Error) -> Self {
        SqlError::from(error).into()
    }
}

/// On whose behalf users are changed, and how far that reaches. What it says is compared with the database in the transaction
/// that makes the change: who was removed while his request was on its way changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Mandate {
    pub(crate) user_id: i64,
    pub(crate) tenant: Tenant,
    pub(crate) standing: Standing,
    pub(crate) scope: Scope,
    /// One of our own services: there is no user to look for.
    pub(crate) is_service: bool,
}

/// What a login checks and puts into the token.
pub(crate) struct Credentials {
    pub(crate) id: i64,
    pub(crate) tenant: Tenant,
    pub(crate) username: String,
    pub(crate) profile: String,
    pub(crate) credential_key: String,
    pub(crate) password_hash: Option<String>,
}

#[derive(Clone)]
pub(crate) struct UserRepository {
    sql: Sql,
    outbox: Outbox,
    tenants: TenantRepository,
    clock: Clock,
}

impl UserRepository {
    pub(crate) fn new(sql: Sql, outbox: Outbox, tenants: TenantRepository, clock: Clock) -> Self {
        Self { sql, outbox, tenants, clock }
    }

    /// Users whose user name contains a text, by name.
    pub(crate) async fn list(&self, scope: &Scope, username: &str) -> Result<Vec<User>, SqlError> {
        // REPLACE finds a text literally and case-sensitively in both engines, which LIKE does not.
        let rows = sqlx::query(
            "SELECT id, username, name, tenant, email, profile, created_ms, created_by FROM users
             WHERE ($1 = '' OR tenant = $1) AND ($2 = '' OR REPLACE(username, $2, '') <> username)
             ORDER BY name, id",
        )
        .bind(scope.filter())
        .bind(username)
        .fetch_all(self.sql.pool()?)
        .await?;
        rows.iter().map(user).collect()
    }

    /// The user that a path names.
    pub(crate) async fn find(&self, scope: &Scope, who: &Reference) -> Result<Option<User>, SqlError> {
        let query = match who {
            Reference::Id(id) => sqlx::query(
                "SELECT id, username, name, tenant, email, profile, created_ms, created_by
                 FROM users WHERE id = $1",
            )
            .bind(*id),
            Reference::Name(name) => sqlx::query(
                "SELECT id, username, name, tenant, email, profile, created_ms, created_by
                 FROM users WHERE username = $1",
            )
            .bind(name.clone()),
        };
        let found = query.fetch_optional(self.sql.pool()?).await?.as_ref().map(user).transpose()?;
        Ok(found.filter(|user| scope.includes(&user.tenant)))
    }

    /// Whether another user has this user name or e-mail address.
    pub(crate) async fn check_free(&self, username: &str, email: &str) -> Result<(), UserError> {
        let taken = sqlx::query("SELECT username FROM users WHERE username = $1 OR LOWER(email) = LOWER($2)")
            .bind(username)
            .bind(email)
            .fetch_all(self.sql.pool()?)
            .await?;
        if taken.is_empty() {
            return Ok(());
        }
        let has_name = |row: &AnyRow| row.try_get::<String, _>(0).is_ok_and(|taken| taken == username);
        Err(if taken.iter().any(has_name) { UserError::UsernameTaken } else { UserError::EmailTaken })
    }

    /// What belongs to a login name.
    pub(crate) async fn credentials(&self, username: &str) -> Result<Option<Credentials>, SqlError> {
        let row = sqlx::query(
            "SELECT id, tenant, username, profile, credential_key, password_hash FROM users WHERE username = $1",
        )
        .bind(username)
        .fetch_optional(self.sql.pool()?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Credentials {
            id: row.try_get("id")?,
            tenant: tenant(&row)?,
            username: row.try_get("username")?,
            profile: row.try_get("profile")?,
            credential_key: row.try_get("credential_key")?,
            password_hash: row.try_get("password_hash")?,
        }))
    }

    /// Groups of a user.
    pub(crate) async fn groups_of(&self, user: i64) -> Result<Vec<i64>, SqlError> {
        let rows = sqlx::query("SELECT group_id FROM user_groups WHERE user_id = $1 ORDER BY group_id")
            .bind(user)
            .fetch_all(self.sql.pool()?)
            .await?;
        ids(&rows)
    }

    /// How far the power of a user reaches.
    pub(crate) async fn standing(&self, user: i64) -> Result<Standing, SqlError> {
        let place = place(self.sql.pool()?, user).await?;
        Ok(place.map_or(Standing::Ordinary, |(_, standing)| standing))
    }

    /// Stores a user, who joins the groups that exist and that `may_join` allows. Returns the user and, as they were
    /// sent, the groups that were joined and the others.
    pub(crate) async fn insert(
        &self,
        mandate: &Mandate,
        new: NewUser,
        password_hash: String,
        may_join: impl Fn(i64) -> bool,
    ) -> Result<(User, Vec<Value>, Vec<Value>), UserError> {
        let mut tx = self.sql.begin().await?;
        let NewUser { username, details: Details { tenant, email, name }, profile, groups } = new;
        let created_ms = self.clock.now_ms();
        let id = next_id(&mut tx, "users").await?;
        check(&mut tx, mandate).await?;
        let created_by = mandate.user_id;
        let user = User { id, username, name, tenant, email, profile, created_ms, created_by };
        insert_row(&mut tx, &user, &password_hash).await?;
        let (joined, not_joined) = join(&mut tx, id, groups, may_join).await?;
        self.tenants.join(&self.outbox, &mut tx, &user.tenant).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok((user, joined, not_joined))
    }

    /// Changes a user. The tokens of a user who moves to another tenant end.
    pub(crate) async fn update(&self, mandate: &Mandate, id: i64, to: &Details) -> Result<(), UserError> {
        let mut tx = self.sql.begin().await?;
        let from = self.lock(&mut tx, mandate, id).await?;
        sqlx::query("UPDATE users SET name = $1, email = $2, tenant = $3 WHERE id = $4")
            .bind(&to.name)
            .bind(&to.email)
            .bind(to.tenant.as_str())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if from != to.tenant {
            self.revoke(&mut tx, id).await?;
            self.tenants.leave(&self.outbox, &mut tx, &from).await?;
            self.tenants.join(&self.outbox, &mut tx, &to.tenant).await?;
        }
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Removes a user with all tokens.
    pub(crate) async fn delete(&self, mandate: &Mandate, id: i64) -> Result<(), UserError> {
        let mut tx = self.sql.begin().await?;
        let tenant = self.lock(&mut tx, mandate, id).await?;
        sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut *tx).await?;
        announce::revocation(&self.outbox, &mut tx, id, self.clock.now_ms()).await?;
        self.tenants.leave(&self.outbox, &mut tx, &tenant).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Makes a tenant without users. Tells whether there was none of this name.
    pub(crate) async fn create_tenant(&self, mandate: &Mandate, tenant: &Tenant) -> Result<bool, UserError> {
        let mut tx = self.sql.begin().await?;
        lock_all(&mut tx, mandate).await?;
        let made = self.tenants.found(&self.outbox, &mut tx, tenant).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(made)
    }

    /// Removes a tenant with all its users and their tokens. Tells whether there was one.
    pub(crate) async fn remove_tenant(&self, mandate: &Mandate, tenant: &Tenant) -> Result<bool, UserError> {
        let mut tx = self.sql.begin().await?;
        lock_all(&mut tx, mandate).await?;
        let users = sqlx::query("DELETE FROM users WHERE tenant = $1 RETURNING id")
            .bind(tenant.as_str())
            .fetch_all(&mut *tx)
            .await?;
        for user in ids(&users)? {
            announce::revocation(&self.outbox, &mut tx, user, self.clock.now_ms()).await?;
        }
        let was_there = self.tenants.end(&self.outbox, &mut tx, tenant).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(was_there)
    }

    /// The tenant of a user, who stays as he is until the transaction ends. So do the counts of all tenants: two
    /// users who change places must not wait for each other for ever.
    async fn lock(&self, tx: &mut Tx, mandate: &Mandate, id: i64) -> Result<Tenant, UserError> {
        lock_all(tx, mandate).await?;
        let row = sqlx::query("SELECT tenant FROM users WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?
            .ok_or(UserError::Unknown)?;
        let tenant = tenant(&row)?;
        if mandate.scope.includes(&tenant) { Ok(tenant) } else { Err(UserError::Unknown) }
    }

    /// Ends all tokens of a user.
    async fn revoke(&self, tx: &mut Tx, id: i64) -> Result<(), SqlError> {
        sqlx::query("UPDATE users SET credential_key = $1 WHERE id = $2")
            .bind(credential_key())
            .bind(id)
            .execute(&mut **tx)
            .await?;
        announce::revocation(&self.outbox, tx, id, self.clock.now_ms()).await
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
async fn place(
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
    let tenant = tenant(&row)?;
    let standing = match row.try_get::<i64, _>("admin")? {
        0 => Standing::Ordinary,
        _ if tenant.as_str() == ADMIN => Standing::PlatformAdmin,
        _ => Standing::TenantAdmin,
    };
    Ok(Some((tenant, standing)))
}

/// Keeps all users and tenants as they are until the transaction ends, if the mandate still holds.
async fn lock_all(tx: &mut Tx, mandate: &Mandate) -> Result<(), UserError> {
    sqlx::query("UPDATE counters SET value = value WHERE name = 'users'").execute(&mut **tx).await?;
    check(tx, mandate).await
}

/// Whether a mandate still is what it was when its request began. Call it with the counter of users locked: nobody changes
/// users meanwhile.
async fn check(tx: &mut Tx, mandate: &Mandate) -> Result<(), UserError> {
    if mandate.is_service {
        return Ok(());
    }
    match place(&mut **tx, mandate.user_id).await? {
        Some((tenant, standing)) if tenant == mandate.tenant && standing == mandate.standing => Ok(()),
        _ => Err(UserError::MandateEnded),
    }
}

pub(super) async fn insert_row(tx: &mut Tx, user: &User, password_hash: &str) -> Result<(), SqlError> {
    sqlx::query(
        "INSERT INTO users (id, username, name, tenant, email, profile, password_hash, credential_key,
                            created_ms, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(user.id)
    .bind(&user.username)
    .bind(&user.name)
    .bind(user.tenant.as_str())
    .bind(&user.email)
    .bind(&user.profile)
    .bind(password_hash)
    .bind(credential_key())
    .bind(user.created_ms)
    .bind(user.created_by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Joins groups, named as a body names them; returns those that were joined and the others.
async fn join(
    tx: &mut Tx,
    user: i64,
    groups: Vec<Value>,
    may_join: impl Fn(i64) -> bool,
) -> Result<(Vec<Value>, Vec<Value>), SqlError> {
    let (mut joined, mut not_joined) = (Vec::new(), Vec::new());
    for group in groups {
        let found = match group_name(&group).as_deref().map(Reference::parse) {
            Some(Reference::Id(id)) => sqlx::query("SELECT id FROM groups WHERE id = $1").bind(id),
            Some(Reference::Name(name)) => sqlx::query("SELECT id FROM groups WHERE name = $1").bind(name),
            None => continue,
        };
        let found: Option<i64> =
            found.fetch_optional(&mut **tx).await?.map(|row| row.try_get(0)).transpose()?;
        let Some(found) = found.filter(|id| may_join(*id)) else {
            not_joined.push(group);
            continue;
        };
        let added =
            sqlx::query("INSERT INTO user_groups (user_id, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(user)
                .bind(found)
                .execute(&mut **tx)
                .await?;
        // A group that is listed twice is joined once.
        if added.rows_affected() > 0 { &mut joined } else { &mut not_joined }.push(group);
    }
    Ok((joined, not_joined))
}

fn user(row: &AnyRow) -> Result<User, SqlError> {
    Ok(User {
        id: row.try_get("id")?,
        username: row.try_get("username")?,
        name: row.try_get("name")?,
        tenant: tenant(row)?,
        email: row.try_get("email")?,
        profile: row.try_get("profile")?,
        created_ms: row.try_get("created_ms")?,
        created_by: row.try_get("created_by")?,
    })
}

fn tenant(row: &AnyRow) -> Result<Tenant, SqlError> {
    Tenant::try_from(row.try_get::<String, _>("tenant")?).map_err(unreadable)
}
