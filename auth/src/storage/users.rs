//! Users, and the tenants that come and go with them.

use common::{
    clock::Clock,
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::{
        Tenant,
        event::audit::{AuditAction, AuditSubject},
    },
};
use serde_json::{Value, json};
use sqlx::{Row, any::AnyRow};

use super::{
    ChangeError, Mandate, Standing, TenantRepository, Thing, Tx, announce, ids,
    mandate::{check, is_admin, lock, may_give_group, place, power, stakes_of_user},
    next_id,
    passwords::{MailKind, add_mail},
    tenant_of,
};
use crate::domain::{
    power::Power,
    secret::credential_key,
    user::{Details, NewUser, Reference, Scope, User, group_name},
};

/// What a login checks and puts into the token.
pub(crate) struct Credentials {
    pub(crate) id: i64,
    pub(crate) tenant: Tenant,
    pub(crate) username: String,
    pub(crate) profile: String,
    pub(crate) credential_key: String,
    pub(crate) password_hash: Option<String>,
}

/// The statement that reads users, `u`; what follows says which.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT u.id, u.username, u.name, u.tenant, u.email, u.profile, u.created_ms, u.created_by FROM users u ",
            $which
        )
    };
}

/// Which users a list has, of those whom the caller sees.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    /// Those with a text in their user name; all when it is empty.
    Named(String),
    /// The members of a group.
    Members(i64),
}

#[derive(Clone)]
pub(crate) struct UserRepository {
    sql: Sql,
    outbox: Outbox,
    tenants: TenantRepository,
    clock: Clock,
}

impl UserRepository {
    /// Users that are read at a time.
    pub(crate) const PAGE: usize = 1000;

    pub(crate) fn new(sql: Sql, outbox: Outbox, tenants: TenantRepository, clock: Clock) -> Self {
        Self { sql, outbox, tenants, clock }
    }

    /// At most [`Self::PAGE`] users by name, those that come after one, or the first.
    pub(crate) async fn page(
        &self,
        scope: &Scope,
        selection: &Selection,
        after: Option<&User>,
    ) -> Result<Vec<User>, SqlError> {
        // REPLACE finds a text literally and case-sensitively in both engines, which LIKE does not.
        let query = match selection {
            Selection::Named(text) => sqlx::query(select!(
                "WHERE ($2 = '' OR REPLACE(u.username, $2, '') <> u.username) AND ($1 = '' OR u.tenant = $1)
                 AND (u.name, u.id) > ($3, $4) ORDER BY u.name, u.id LIMIT $5"
            ))
            .bind(scope.filter().to_owned())
            .bind(text.clone()),
            Selection::Members(group) => sqlx::query(select!(
                "JOIN user_groups ug ON ug.user_id = u.id WHERE ug.group_id = $2 AND ($1 = '' OR u.tenant = $1)
                 AND (u.name, u.id) > ($3, $4) ORDER BY u.name, u.id LIMIT $5"
            ))
            .bind(scope.filter().to_owned())
            .bind(*group),
        };
        let (name, id) = after.map_or((String::new(), 0), |user| (user.name.clone(), user.id));
        let query = query.bind(name).bind(id).bind(Self::PAGE as i64);
        query.fetch_all(self.sql.pool()?).await?.iter().map(user).collect()
    }

    /// The user that a path names.
    pub(crate) async fn find(&self, scope: &Scope, who: &Reference) -> Result<Option<User>, SqlError> {
        let query = match who {
            Reference::Id(id) => sqlx::query(select!("WHERE id = $1")).bind(*id),
            Reference::Name(name) => sqlx::query(select!("WHERE username = $1")).bind(name.clone()),
        };
        let found = query.fetch_optional(self.sql.pool()?).await?.as_ref().map(user).transpose()?;
        Ok(found.filter(|user| scope.includes(&user.tenant)))
    }

    /// The user with a login name, in any tenant.
    pub(crate) async fn by_username(&self, username: &str) -> Result<Option<User>, SqlError> {
        self.find(&Scope::AllTenants, &Reference::Name(username.to_owned())).await
    }

    /// Whether another user has this user name or e-mail address.
    pub(crate) async fn check_free(&self, username: &str, email: &str) -> Result<(), ChangeError> {
        let taken = sqlx::query("SELECT username FROM users WHERE username = $1 OR LOWER(email) = LOWER($2)")
            .bind(username)
            .bind(email)
            .fetch_all(self.sql.pool()?)
            .await?;
        if taken.is_empty() {
            return Ok(());
        }
        let has_name = |row: &AnyRow| row.try_get::<String, _>(0).is_ok_and(|taken| taken == username);
        Err(if taken.iter().any(has_name) { ChangeError::UsernameTaken } else { ChangeError::EmailTaken })
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
            tenant: tenant_of(&row)?,
            username: row.try_get("username")?,
            profile: row.try_get("profile")?,
            credential_key: row.try_get("credential_key")?,
            password_hash: row.try_get("password_hash")?,
        }))
    }

    /// Puts a better hash of the same password in the place of one.
    pub(crate) async fn improve_hash(&self, user: i64, from: &str, to: &str) -> Result<(), SqlError> {
        sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3")
            .bind(to)
            .bind(user)
            .bind(from)
            .execute(self.sql.pool()?)
            .await?;
        Ok(())
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

    /// Stores a user, who joins those of the groups that exist and that the caller may give. Returns the user and, as they
    /// were sent, the groups that were joined and the others. A user without a password gets a mail.
    pub(crate) async fn insert(
        &self,
        mandate: &Mandate,
        new: NewUser,
        password_hash: Option<String>,
    ) -> Result<(User, Vec<Value>, Vec<Value>), ChangeError> {
        let mut tx = self.sql.begin().await?;
        let NewUser { username, details: Details { tenant, email, name }, profile, groups } = new;
        let created_ms = self.clock.now_ms();
        let id = next_id(&mut tx, "users").await?;
        check(&mut tx, mandate).await?;
        let created_by = mandate.user_id;
        let user = User { id, username, name, tenant, email, profile, created_ms, created_by };
        insert_row(&mut tx, &user, password_hash.as_deref()).await?;
        if password_hash.is_none() {
            add_mail(&mut tx, id, MailKind::Activation, created_ms).await?;
        }
        let (joined, not_joined) = join(&mut tx, mandate, id, groups).await?;
        self.tenants.join(&self.outbox, &mut tx, &user.tenant).await?;
        let detail = json!({ "groups": joined });
        self.audit(&mut tx, mandate, AuditAction::UserCreate, &user, detail).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok((user, joined, not_joined))
    }

    /// Changes a user. The tokens of a user who moves to another tenant end.
    pub(crate) async fn update(&self, mandate: &Mandate, id: i64, to: &Details) -> Result<(), ChangeError> {
        let mut tx = self.sql.begin().await?;
        let user = self.lock(&mut tx, mandate, id).await?;
        if !to.email.eq_ignore_ascii_case(&user.email) {
            may_readdress(&mut tx, mandate, id).await?;
            // A link that went to the former address opens nothing any more.
            sqlx::query("DELETE FROM password_links WHERE user_id = $1").bind(id).execute(&mut *tx).await?;
        }
        sqlx::query("UPDATE users SET name = $1, email = $2, tenant = $3 WHERE id = $4")
            .bind(&to.name)
            .bind(&to.email)
            .bind(to.tenant.as_str())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        if user.tenant != to.tenant {
            self.revoke(&mut tx, id).await?;
            self.tenants.leave(&self.outbox, &mut tx, &user.tenant).await?;
            self.tenants.join(&self.outbox, &mut tx, &to.tenant).await?;
        }
        let detail = json!({ "name": to.name, "email": to.email, "tenant": to.tenant });
        self.audit(&mut tx, mandate, AuditAction::UserUpdate, &user, detail).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Removes a user with all tokens.
    pub(crate) async fn delete(&self, mandate: &Mandate, id: i64) -> Result<(), ChangeError> {
        let mut tx = self.sql.begin().await?;
        let user = self.lock(&mut tx, mandate, id).await?;
        sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut *tx).await?;
        announce::tokens_ended(&self.outbox, &mut tx, id, self.clock.now_ms()).await?;
        self.tenants.leave(&self.outbox, &mut tx, &user.tenant).await?;
        self.audit(&mut tx, mandate, AuditAction::UserRemove, &user, Value::Null).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// A user who is the caller's to change, and stays as he is until the transaction ends.
    async fn lock(&self, tx: &mut Tx, mandate: &Mandate, id: i64) -> Result<User, ChangeError> {
        lock(tx).await?;
        check(tx, mandate).await?;
        let user = user_in(tx, &mandate.scope, id).await?;
        // Who is not in the group `admin` has no power over its members.
        if mandate.standing == Standing::Ordinary && is_admin(tx, id).await? {
            return Err(ChangeError::Forbidden);
        }
        Ok(user)
    }

    async fn audit(
        &self,
        tx: &mut Tx,
        mandate: &Mandate,
        action: AuditAction,
        user: &User,
        detail: Value,
    ) -> Result<(), SqlError> {
        let subject = AuditSubject { user: Some(announce::audited(user)), ..AuditSubject::default() };
        let now_ms = self.clock.now_ms();
        announce::audit(&self.outbox, tx, &mandate.audited(action, subject, detail, now_ms)).await
    }

    /// Ends all tokens of a user.
    async fn revoke(&self, tx: &mut Tx, id: i64) -> Result<(), SqlError> {
        end_tokens(&self.outbox, tx, id, self.clock.now_ms()).await
    }
}

/// Ends all tokens of a user.
pub(super) async fn end_tokens(outbox: &Outbox, tx: &mut Tx, id: i64, now_ms: i64) -> Result<(), SqlError> {
    sqlx::query("UPDATE users SET credential_key = $1 WHERE id = $2")
        .bind(credential_key())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    announce::tokens_ended(outbox, tx, id, now_ms).await
}

/// Ends all tokens of the members of a group.
pub(super) async fn end_tokens_of_group(
    outbox: &Outbox,
    tx: &mut Tx,
    group: i64,
    now_ms: i64,
) -> Result<(), SqlError> {
    // One statement for all of them: with the identifier each has a key of his own.
    let rows = sqlx::query(
        "UPDATE users SET credential_key = $1 || CAST(id AS TEXT)
         WHERE id IN (SELECT user_id FROM user_groups WHERE group_id = $2) RETURNING id",
    )
    .bind(credential_key())
    .bind(group)
    .fetch_all(&mut **tx)
    .await?;
    announce::tokens_of_many_ended(outbox, tx, &ids(&rows)?, now_ms).await
}

/// A user of the tenants that a caller sees.
pub(super) async fn user_in(tx: &mut Tx, scope: &Scope, id: i64) -> Result<User, ChangeError> {
    let row = sqlx::query(
        "SELECT id, username, name, tenant, email, profile, created_ms, created_by FROM users WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    let user = row.as_ref().map(user).transpose()?.filter(|user| scope.includes(&user.tenant));
    user.ok_or(ChangeError::Unknown(Thing::User))
}

/// Whether somebody may change the e-mail address of a user: who reads a user's mail can set the password, and so gets all
/// that the user has.
async fn may_readdress(tx: &mut Tx, mandate: &Mandate, user: i64) -> Result<(), ChangeError> {
    if mandate.governs() || mandate.user_id == user {
        return Ok(());
    }
    let power = power(tx, mandate).await?;
    if power.covers(&stakes_of_user(tx, user).await?) { Ok(()) } else { Err(ChangeError::Forbidden) }
}

pub(super) async fn insert_row(
    tx: &mut Tx,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), SqlError> {
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
    mandate: &Mandate,
    user: i64,
    groups: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), SqlError> {
    let power = if mandate.governs() { Power::default() } else { power(tx, mandate).await? };
    let (mut joined, mut not_joined) = (Vec::new(), Vec::new());
    for group in groups {
        let found = match group_name(&group).as_deref().and_then(Reference::parse) {
            Some(Reference::Id(id)) => sqlx::query("SELECT id FROM groups WHERE id = $1").bind(id),
            Some(Reference::Name(name)) => sqlx::query("SELECT id FROM groups WHERE name = $1").bind(name),
            None => continue,
        };
        let found: Option<i64> =
            found.fetch_optional(&mut **tx).await?.map(|row| row.try_get(0)).transpose()?;
        let may_join = match found {
            Some(id) => may_give_group(tx, mandate, &power, id).await?,
            None => false,
        };
        let Some(found) = found.filter(|_| may_join) else {
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

pub(super) fn user(row: &AnyRow) -> Result<User, SqlError> {
    Ok(User {
        id: row.try_get("id")?,
        username: row.try_get("username")?,
        name: row.try_get("name")?,
        tenant: tenant_of(row)?,
        email: row.try_get("email")?,
        profile: row.try_get("profile")?,
        created_ms: row.try_get("created_ms")?,
        created_by: row.try_get("created_by")?,
    })
}
