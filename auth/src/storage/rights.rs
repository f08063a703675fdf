//! Changes of groups, permissions and who has them: what all of them have in common.

use common::{
    clock::Clock,
    engine::{Sql, outbox::Outbox, sql::SqlError},
    wire::event::audit::{AuditAction, AuditSubject},
};
use serde_json::Value;
use sqlx::Row;

use super::{ChangeError, Mandate, Tx, access, announce, mandate};
use crate::domain::{
    bootstrap::ADMIN,
    decide::{Pattern, Rules},
};

/// Where rights are changed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rights {
    pub(super) sql: Sql,
    outbox: Outbox,
    clock: Clock,
}

/// A change under way: nobody else changes users or rights meanwhile.
pub(super) struct RightsChange<'a> {
    pub(super) tx: Tx,
    pub(super) mandate: &'a Mandate,
    pub(super) now_ms: i64,
    pub(super) outbox: &'a Outbox,
    /// The user `admin` could manage users and rights before.
    admin_could: bool,
}

impl Rights {
    pub(crate) fn new(sql: Sql, outbox: Outbox, clock: Clock) -> Self {
        Self { sql, outbox, clock }
    }

    /// Begins a change.
    pub(super) async fn begin<'a>(&'a self, mandate: &'a Mandate) -> Result<RightsChange<'a>, ChangeError> {
        let mut tx = self.sql.begin().await?;
        mandate::lock(&mut tx).await?;
        mandate::check(&mut tx, mandate).await?;
        let admin_could = admin_can(&mut tx).await?;
        Ok(RightsChange { tx, mandate, now_ms: self.clock.now_ms(), outbox: &self.outbox, admin_could })
    }

    /// Begins a change of what belongs to the platform.
    pub(super) async fn govern<'a>(&'a self, mandate: &'a Mandate) -> Result<RightsChange<'a>, ChangeError> {
        if mandate.governs() { self.begin(mandate).await } else { Err(ChangeError::Forbidden) }
    }
}

impl RightsChange<'_> {
    /// Announces that what a user may do changed, or everybody.
    pub(super) async fn rights_changed(&mut self, user: Option<i64>) -> Result<(), SqlError> {
        announce::rights_changed(self.outbox, &mut self.tx, user, self.now_ms).await
    }

    /// Ends all tokens of a user.
    pub(super) async fn end_tokens(&mut self, user: i64) -> Result<(), SqlError> {
        super::users::end_tokens(self.outbox, &mut self.tx, user, self.now_ms).await
    }

    /// Announces that the tokens of users who were removed ended.
    pub(super) async fn tokens_ended(&mut self, users: &[i64]) -> Result<(), SqlError> {
        announce::tokens_of_many_ended(self.outbox, &mut self.tx, users, self.now_ms).await
    }

    /// Ends all tokens of the members of a group.
    pub(super) async fn end_tokens_of(&mut self, group: i64) -> Result<(), SqlError> {
        super::users::end_tokens_of_group(self.outbox, &mut self.tx, group, self.now_ms).await
    }

    /// Writes the audit record and commits, unless the user `admin` would be locked out: nobody could let him in again.
    pub(super) async fn commit(
        mut self,
        action: AuditAction,
        subject: AuditSubject,
        detail: Value,
    ) -> Result<(), ChangeError> {
        if self.admin_could && !admin_can(&mut self.tx).await? {
            return Err(ChangeError::LocksAdminOut);
        }
        let event = self.mandate.audited(action, subject, detail, self.now_ms);
        announce::audit(self.outbox, &mut self.tx, &event).await?;
        self.tx.commit().await?;
        self.outbox.committed();
        Ok(())
    }
}

async fn admin_can(tx: &mut Tx) -> Result<bool, SqlError> {
    let row = sqlx::query("SELECT id FROM users WHERE username = $1");
    let Some(row) = row.bind(ADMIN).fetch_optional(&mut **tx).await? else { return Ok(false) };
    let holder = access::holder(&mut **tx, row.try_get(0)?).await?;
    Ok(holder.is_some_and(|holder| Rules::of(holder.grants, Pattern::compile).may_administer()))
}
