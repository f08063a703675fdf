//! Who is in which group, and who has which permission.

use common::wire::event::audit::{AuditAction, AuditSubject, AuditedThing, AuditedUser};
use serde_json::Value;
use sqlx::Row;

use super::{
    ChangeError, Mandate, Rights, Standing, announce,
    groups::group_in,
    mandate::{is_admin, may_give_group, power, stakes_of_group},
    permissions::permission_in,
    rights::RightsChange,
    users::user_in,
};
use crate::domain::power::Stake;

/// What is related to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    UserGroup,
    UserPermission,
    GroupPermission,
}

/// Two things that are related, or shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) relation: Relation,
    /// Identifier of the user or group that has the other.
    pub(crate) holder: i64,
    /// Identifier of the group or permission.
    pub(crate) what: i64,
}

/// Relations between users, groups and permissions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RelationRepository {
    rights: Rights,
}

impl Relation {
    /// How many a user or a group may have.
    fn most(self) -> i64 {
        match self {
            Self::UserGroup => 50,
            Self::UserPermission => 500,
            Self::GroupPermission => 1000,
        }
    }

    fn count(self) -> &'static str {
        match self {
            Self::UserGroup => "SELECT COUNT(*) FROM user_groups WHERE user_id = $1",
            Self::UserPermission => "SELECT COUNT(*) FROM user_permissions WHERE user_id = $1",
            Self::GroupPermission => "SELECT COUNT(*) FROM group_permissions WHERE group_id = $1",
        }
    }

    fn insert(self) -> &'static str {
        match self {
            Self::UserGroup => {
                "INSERT INTO user_groups (user_id, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            }
            Self::UserPermission => {
                "INSERT INTO user_permissions (user_id, permission_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            }
            Self::GroupPermission => {
                "INSERT INTO group_permissions (group_id, permission_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            }
        }
    }

    fn delete(self) -> &'static str {
        match self {
            Self::UserGroup => "DELETE FROM user_groups WHERE user_id = $1 AND group_id = $2",
            Self::UserPermission => "DELETE FROM user_permissions WHERE user_id = $1 AND permission_id = $2",
            Self::GroupPermission => {
                "DELETE FROM group_permissions WHERE group_id = $1 AND permission_id = $2"
            }
        }
    }
}

impl RelationRepository {
    pub(crate) fn new(rights: Rights) -> Self {
        Self { rights }
    }

    /// Relates two things.
    pub(crate) async fn add(&self, mandate: &Mandate, link: Link) -> Result<(), ChangeError> {
        let mut change = self.rights.begin(mandate).await?;
        let subject = subject(&mut change, link).await?;
        authorize(&mut change, link, true).await?;
        let added = sqlx::query(link.relation.insert())
            .bind(link.holder)
            .bind(link.what)
            .execute(&mut *change.tx)
            .await?;
        if added.rows_affected() == 0 {
            return Err(ChangeError::Already);
        }
        let count = sqlx::query(link.relation.count()).bind(link.holder).fetch_one(&mut *change.tx).await?;
        if count.try_get::<i64, _>(0)? > link.relation.most() {
            return Err(ChangeError::TooMany);
        }
        let action = match link.relation {
            Relation::UserGroup => AuditAction::UserJoinGroup,
            Relation::UserPermission => AuditAction::UserGivePermission,
            Relation::GroupPermission => AuditAction::GroupGivePermission,
        };
        finish(change, link, action, subject).await
    }

    /// Ends the relation of two things.
    pub(crate) async fn remove(&self, mandate: &Mandate, link: Link) -> Result<(), ChangeError> {
        let mut change = self.rights.begin(mandate).await?;
        let subject = subject(&mut change, link).await?;
        authorize(&mut change, link, false).await?;
        let removed = sqlx::query(link.relation.delete())
            .bind(link.holder)
            .bind(link.what)
            .execute(&mut *change.tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(ChangeError::NotSo);
        }
        let action = match link.relation {
            Relation::UserGroup => AuditAction::UserLeaveGroup,
            Relation::UserPermission => AuditAction::UserTakePermission,
            Relation::GroupPermission => AuditAction::GroupTakePermission,
        };
        finish(change, link, action, subject).await
    }
}

/// Both things as the audit names them; an error when one is not there, or not for the caller to see.
async fn subject(change: &mut RightsChange<'_>, link: Link) -> Result<AuditSubject, ChangeError> {
    let (tx, scope) = (&mut change.tx, &change.mandate.scope);
    let mut subject = AuditSubject::default();
    let user = |user| -> AuditedUser { announce::audited(&user) };
    match link.relation {
        Relation::UserGroup | Relation::UserPermission => {
            subject.user = Some(user(user_in(tx, scope, link.holder).await?));
        }
        Relation::GroupPermission => {
            let group = group_in(tx, link.holder).await?;
            subject.group = Some(AuditedThing { id: group.id, name: group.labels.name });
        }
    }
    if link.relation == Relation::UserGroup {
        let group = group_in(tx, link.what).await?;
        subject.group = Some(AuditedThing { id: group.id, name: group.labels.name });
    } else {
        let permission = permission_in(tx, link.what).await?;
        subject.permission = Some(AuditedThing { id: permission.id, name: permission.name });
    }
    Ok(subject)
}

/// Whether the caller may do this. Who governs may; the others give what they have, take what is no `deny`, and leave
/// the members of the group `admin` to one another.
async fn authorize(change: &mut RightsChange<'_>, link: Link, gives: bool) -> Result<(), ChangeError> {
    let mandate = change.mandate;
    if mandate.governs() {
        return Ok(());
    }
    if link.relation == Relation::GroupPermission {
        return Err(ChangeError::Forbidden);
    }
    let tx = &mut change.tx;
    if mandate.standing == Standing::Ordinary && is_admin(tx, link.holder).await? {
        return Err(ChangeError::Forbidden);
    }
    let power = power(tx, mandate).await?;
    let permitted = match link.relation {
        Relation::UserGroup if gives => may_give_group(tx, mandate, &power, link.what).await?,
        Relation::UserGroup => power.may_take(&stakes_of_group(tx, link.what).await?),
        _ => {
            let terms = permission_in(tx, link.what).await?.terms;
            let stakes = [Stake { permission: link.what, denies: terms.denies() }];
            if gives { power.covers(&stakes) } else { power.may_take(&stakes) }
        }
    };
    if permitted { Ok(()) } else { Err(ChangeError::Forbidden) }
}

/// Announces and commits.
async fn finish(
    mut change: RightsChange<'_>,
    link: Link,
    action: AuditAction,
    subject: AuditSubject,
) -> Result<(), ChangeError> {
    match link.relation {
        Relation::UserGroup => change.end_tokens(link.holder).await?,
        Relation::UserPermission => change.rights_changed(Some(link.holder)).await?,
        Relation::GroupPermission => change.rights_changed(None).await?,
    }
    change.commit(action, subject, Value::Null).await
}
