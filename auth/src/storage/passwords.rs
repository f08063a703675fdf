//! Passwords, the links that set them, and the mails that carry the links.

use common::{
    clock::Clock,
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::event::{
        AuditEvent,
        audit::{AuditAction, AuditSubject},
    },
};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};

use super::{ChangeError, Thing, Tx, announce, mandate, users};
use crate::domain::user::{Scope, User};

/// A user with all passwords that are known of him.
pub(crate) struct Secrets {
    pub(crate) user: User,
    /// Hash of the password; `None` before the first.
    pub(crate) current: Option<String>,
    /// Hashes of those before it.
    pub(crate) former: Vec<String>,
}

/// A password that takes the place of another.
pub(crate) struct NewPassword<'a> {
    pub(crate) user: &'a User,
    /// Hash of the one that must still be there.
    pub(crate) from: Option<&'a str>,
    /// Hash of the new one.
    pub(crate) to: &'a str,
    /// What permits it: the hash of a link, or nothing where the old password was shown.
    pub(crate) link: Option<&'a str>,
    /// How many former ones are kept.
    pub(crate) keep: i64,
    pub(crate) request_id: Option<String>,
}

/// Why a mail is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailKind {
    /// The user is new.
    Activation,
    /// The password is forgotten.
    Reset,
}

/// A mail that somebody has taken over to send it.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) user: User,
    pub(crate) kind: MailKind,
    /// How often it was tried, this time included.
    pub(crate) attempt: i64,
}

impl MailKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Reset => "reset",
        }
    }
}

/// Passwords of users. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PasswordRepository {
    sql: Sql,
    outbox: Outbox,
    clock: Clock,
}

impl PasswordRepository {
    /// Nobody else takes over a mail that one instance is sending, for this long.
    const SENDING_MS: i64 = 60_000;

    pub(crate) fn new(sql: Sql, outbox: Outbox, clock: Clock) -> Self {
        Self { sql, outbox, clock }
    }

    /// The passwords of a user.
    pub(crate) async fn of_user(&self, user: i64) -> Result<Option<Secrets>, SqlError> {
        let row = sqlx::query(
            "SELECT id, username, name, tenant, email, profile, created_ms, created_by, password_hash
             FROM users WHERE id = $1",
        )
        .bind(user)
        .fetch_optional(self.sql.pool()?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let former = sqlx::query("SELECT password_hash FROM former_passwords WHERE user_id = $1")
            .bind(user)
            .fetch_all(self.sql.pool()?)
            .await?;
        let former = former.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok(Some(Secrets { user: users::user(&row)?, current: row.try_get("password_hash")?, former }))
    }

    /// The passwords of the user who has a link, while it is good.
    pub(crate) async fn of_link(&self, link_hash: &str) -> Result<Option<Secrets>, SqlError> {
        let row = sqlx::query("SELECT user_id FROM password_links WHERE link_hash = $1 AND expires_ms > $2")
            .bind(link_hash)
            .bind(self.clock.now_ms())
            .fetch_optional(self.sql.pool()?)
            .await?;
        match row {
            Some(row) => self.of_user(row.try_get(0)?).await,
            None => Ok(None),
        }
    }

    /// Replaces a password and ends the user's tokens and link. [`ChangeError::NotSo`]: the old password or the link has
    /// changed meanwhile.
    pub(crate) async fn replace(&self, new: NewPassword<'_>) -> Result<(), ChangeError> {
        let mut tx = self.sql.begin().await?;
        mandate::lock(&mut tx).await?;
        let now_ms = self.clock.now_ms();
        let id = new.user.id;
        let links = "DELETE FROM password_links WHERE user_id = $1 AND ($2 = '' OR link_hash = $2) \
                     AND ($2 = '' OR expires_ms > $3)";
        let links =
            sqlx::query(links).bind(id).bind(new.link.unwrap_or_default()).bind(now_ms).execute(&mut *tx);
        if links.await?.rows_affected() == 0 && new.link.is_some() {
            return Err(ChangeError::NotSo);
        }
        let replaced = sqlx::query(
            "UPDATE users SET password_hash = $1 WHERE id = $2 AND COALESCE(password_hash, '') = $3",
        )
        .bind(new.to)
        .bind(id)
        .bind(new.from.unwrap_or_default())
        .execute(&mut *tx)
        .await?;
        if replaced.rows_affected() == 0 {
            return Err(ChangeError::NotSo);
        }
        if let Some(former) = new.from {
            remember(&mut tx, id, former, new.keep).await?;
        }
        // What it would have carried is not needed any more.
        sqlx::query("DELETE FROM mails WHERE user_id = $1").bind(id).execute(&mut *tx).await?;
        users::end_tokens(&self.outbox, &mut tx, id, now_ms).await?;
        let who = announce::audited(new.user);
        let (caller, action) = match new.link {
            Some(_) => (None, AuditAction::UserSetPassword),
            None => (Some(who.clone()), AuditAction::UserChangePassword),
        };
        let subject = AuditSubject { user: Some(who), ..AuditSubject::default() };
        let (timestamp, request_id, detail) = (now_ms, new.request_id, Value::Null);
        let event = AuditEvent { timestamp, caller, action, subject, detail, request_id };
        announce::audit(&self.outbox, &mut tx, &event).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Asks for a mail with a link for a user. [`ChangeError::Already`]: there is one.
    pub(crate) async fn ask(&self, user: i64, request_id: Option<String>) -> Result<(), ChangeError> {
        let now_ms = self.clock.now_ms();
        // Everybody may ask, as often as he likes: most of that ends here, and keeps nobody who changes something waiting.
        check_is_first(self.sql.pool()?, user, now_ms).await?;
        let mut tx = self.sql.begin().await?;
        mandate::lock(&mut tx).await?;
        let user = users::user_in(&mut tx, &Scope::AllTenants, user).await?;
        check_is_first(&mut *tx, user.id, now_ms).await?;
        add_mail(&mut tx, user.id, MailKind::Reset, now_ms).await?;
        let subject = AuditSubject { user: Some(announce::audited(&user)), ..AuditSubject::default() };
        let action = AuditAction::UserAskForPassword;
        let (timestamp, caller, detail) = (now_ms, None, Value::Null);
        let event = AuditEvent { timestamp, caller, action, subject, detail, request_id };
        announce::audit(&self.outbox, &mut tx, &event).await?;
        tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Waits until the tables are there.
    pub(crate) async fn migrated(&self) {
        self.sql.migrated().await;
    }

    /// Takes over the next mail that is due, so that no other instance sends it for a minute, and gives its user a link
    /// that is good for `lifetime_ms`. Of the link only the hash is kept, so each attempt has its own.
    pub(crate) async fn next_mail(
        &self,
        link_hash: &str,
        lifetime_ms: i64,
    ) -> Result<Option<Mail>, ChangeError> {
        let now_ms = self.clock.now_ms();
        let due = sqlx::query("SELECT user_id FROM mails WHERE due_ms <= $1 ORDER BY due_ms LIMIT 1")
            .bind(now_ms)
            .fetch_optional(self.sql.pool()?)
            .await?;
        let Some(due) = due else { return Ok(None) };
        let mut tx = self.sql.begin().await?;
        mandate::lock(&mut tx).await?;
        let taken = sqlx::query(
            "UPDATE mails SET attempts = attempts + 1, due_ms = $1 WHERE user_id = $2 AND due_ms <= $3
             RETURNING user_id, kind, attempts",
        )
        .bind(now_ms + Self::SENDING_MS)
        .bind(due.try_get::<i64, _>(0)?)
        .bind(now_ms)
        .fetch_optional(&mut *tx)
        .await?;
        // Another instance was faster, and there may be more.
        let Some(taken) = taken else { return Err(ChangeError::Unknown(Thing::User)) };
        let user = users::user_in(&mut tx, &Scope::AllTenants, taken.try_get("user_id")?).await?;
        sqlx::query(
            "INSERT INTO password_links (user_id, link_hash, expires_ms) VALUES ($1, $2, $3)
             ON CONFLICT (user_id) DO UPDATE SET link_hash = $2, expires_ms = $3",
        )
        .bind(user.id)
        .bind(link_hash)
        .bind(now_ms + lifetime_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(Mail { user, kind: kind(&taken)?, attempt: taken.try_get("attempts")? }))
    }

    /// A mail has left.
    pub(crate) async fn sent(&self, mail: &Mail) -> Result<(), SqlError> {
        sqlx::query("DELETE FROM mails WHERE user_id = $1 AND attempts = $2")
            .bind(mail.user.id)
            .bind(mail.attempt)
            .execute(self.sql.pool()?)
            .await?;
        Ok(())
    }

    /// A mail could not be sent and is tried again later.
    pub(crate) async fn postpone(&self, mail: &Mail, pause_ms: i64) -> Result<(), SqlError> {
        sqlx::query("UPDATE mails SET due_ms = $1 WHERE user_id = $2 AND attempts = $3")
            .bind(self.clock.now_ms() + pause_ms)
            .bind(mail.user.id)
            .bind(mail.attempt)
            .execute(self.sql.pool()?)
            .await?;
        Ok(())
    }

    /// A mail is given up, and its link with it: the user may ask again.
    pub(crate) async fn give_up(&self, mail: &Mail) -> Result<(), SqlError> {
        let mut tx = self.sql.begin().await?;
        for table in ["DELETE FROM mails WHERE user_id = $1", "DELETE FROM password_links WHERE user_id = $1"]
        {
            sqlx::query(table).bind(mail.user.id).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Refuses a second link for a user, and a second mail.
async fn check_is_first(
    executor: impl sqlx::Executor<'_, Database = sqlx::Any>,
    user: i64,
    now_ms: i64,
) -> Result<(), ChangeError> {
    let waiting = sqlx::query(
        "SELECT user_id FROM mails WHERE user_id = $1
         UNION SELECT user_id FROM password_links WHERE user_id = $1 AND expires_ms > $2",
    );
    let waiting = waiting.bind(user).bind(now_ms).fetch_optional(executor).await?;
    if waiting.is_some() { Err(ChangeError::Already) } else { Ok(()) }
}

/// Adds a mail to those that are to be sent.
pub(super) async fn add_mail(tx: &mut Tx, user: i64, kind: MailKind, now_ms: i64) -> Result<(), SqlError> {
    sqlx::query("INSERT INTO mails (user_id, kind, attempts, due_ms) VALUES ($1, $2, 0, $3)")
        .bind(user)
        .bind(kind.as_str())
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keeps a former password, and of those before it as many as are wanted.
async fn remember(tx: &mut Tx, user: i64, hash: &str, keep: i64) -> Result<(), SqlError> {
    let row = sqlx::query("SELECT COALESCE(MAX(number), 0) FROM former_passwords WHERE user_id = $1")
        .bind(user)
        .fetch_one(&mut **tx)
        .await?;
    let number = row.try_get::<i64, _>(0)? + 1;
    sqlx::query("INSERT INTO former_passwords (user_id, number, password_hash) VALUES ($1, $2, $3)")
        .bind(user)
        .bind(number)
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM former_passwords WHERE user_id = $1 AND number <= $2")
        .bind(user)
        .bind(number - keep)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn kind(row: &AnyRow) -> Result<MailKind, SqlError> {
    let kind: String = row.try_get("kind")?;
    [MailKind::Activation, MailKind::Reset]
        .into_iter()
        .find(|known| known.as_str() == kind)
        .ok_or_else(|| super::unreadable(kind))
}
