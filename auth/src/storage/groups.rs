//! Groups.

use common::{
    engine::sql::SqlError,
    wire::event::audit::{AuditAction, AuditSubject, AuditedThing},
};
use serde_json::{Value, json};
use sqlx::{Row, any::AnyRow};

use super::{ChangeError, Mandate, Rights, Thing, Tx, next_id};
use crate::domain::{
    group::{Group, Labels},
    user::Reference,
};

/// The statement that reads groups, `g`; what follows says which.
macro_rules! select {
    ($which:literal) => {
        concat!("SELECT g.id, g.name, g.description, g.created_ms, g.created_by FROM groups g ", $which)
    };
}

/// Groups belong to the platform. Cheap to clone.
#[derive(Clone)]
pub(crate) struct GroupRepository {
    rights: Rights,
}

impl GroupRepository {
    const MOST: i64 = 1000;

    pub(crate) fn new(rights: Rights) -> Self {
        Self { rights }
    }

    /// Groups whose name contains a text, by name.
    pub(crate) async fn list(&self, name: &str) -> Result<Vec<Group>, SqlError> {
        let rows = sqlx::query(select!("WHERE $1 = '' OR REPLACE(name, $1, '') <> name ORDER BY name, id"))
            .bind(name)
            .fetch_all(self.rights.sql.pool()?)
            .await?;
        rows.iter().map(group).collect()
    }

    /// Groups of a user, by name.
    pub(crate) async fn of_user(&self, user: i64) -> Result<Vec<Group>, SqlError> {
        let rows = sqlx::query(select!(
            "JOIN user_groups ug ON ug.group_id = g.id WHERE ug.user_id = $1 ORDER BY g.name, g.id"
        ))
        .bind(user)
        .fetch_all(self.rights.sql.pool()?)
        .await?;
        rows.iter().map(group).collect()
    }

    /// The group that a path names.
    pub(crate) async fn find(&self, what: &Reference) -> Result<Option<Group>, SqlError> {
        let query = match what {
            Reference::Id(id) => sqlx::query(select!("WHERE id = $1")).bind(*id),
            Reference::Name(name) => sqlx::query(select!("WHERE name = $1")).bind(name.clone()),
        };
        query.fetch_optional(self.rights.sql.pool()?).await?.as_ref().map(group).transpose()
    }

    /// Creates a group; returns its identifier.
    pub(crate) async fn insert(&self, mandate: &Mandate, labels: &Labels) -> Result<i64, ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        check_name(&mut change.tx, &labels.name, 0).await?;
        let count = sqlx::query("SELECT COUNT(*) FROM groups").fetch_one(&mut *change.tx).await?;
        if count.try_get::<i64, _>(0)? >= Self::MOST {
            return Err(ChangeError::TooMany);
        }
        let id = next_id(&mut change.tx, "groups").await?;
        sqlx::query(
            "INSERT INTO groups (id, name, description, created_ms, created_by) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(&labels.name)
        .bind(&labels.description)
        .bind(change.now_ms)
        .bind(mandate.user_id)
        .execute(&mut *change.tx)
        .await?;
        change.commit(AuditAction::GroupCreate, subject(id, &labels.name), detail(labels)).await?;
        Ok(id)
    }

    /// Changes name and description.
    pub(crate) async fn update(&self, mandate: &Mandate, id: i64, to: &Labels) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let from = group_in(&mut change.tx, id).await?;
        check_name(&mut change.tx, &to.name, id).await?;
        sqlx::query("UPDATE groups SET name = $1, description = $2 WHERE id = $3")
            .bind(&to.name)
            .bind(&to.description)
            .bind(id)
            .execute(&mut *change.tx)
            .await?;
        change.commit(AuditAction::GroupUpdate, subject(id, &from.labels.name), detail(to)).await
    }

    /// Removes a group. Its members are in one group less, so their tokens end.
    pub(crate) async fn delete(&self, mandate: &Mandate, id: i64) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let gone = group_in(&mut change.tx, id).await?;
        change.end_tokens_of(id).await?;
        sqlx::query("DELETE FROM groups WHERE id = $1").bind(id).execute(&mut *change.tx).await?;
        change.commit(AuditAction::GroupRemove, subject(id, &gone.labels.name), Value::Null).await
    }
}

async fn check_name(tx: &mut Tx, name: &str, except: i64) -> Result<(), ChangeError> {
    let taken = sqlx::query("SELECT id FROM groups WHERE name = $1 AND id <> $2").bind(name).bind(except);
    match taken.fetch_optional(&mut **tx).await? {
        Some(_) => Err(ChangeError::NameTaken),
        None => Ok(()),
    }
}

pub(super) async fn group_in(tx: &mut Tx, id: i64) -> Result<Group, ChangeError> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id).fetch_optional(&mut **tx).await?;
    Ok(group(&row.ok_or(ChangeError::Unknown(Thing::Group))?)?)
}

fn subject(id: i64, name: &str) -> AuditSubject {
    let group = AuditedThing { id, name: name.to_owned() };
    AuditSubject { group: Some(group), ..AuditSubject::default() }
}

fn detail(labels: &Labels) -> Value {
    json!({ "name": labels.name, "description": labels.description })
}

fn group(row: &AnyRow) -> Result<Group, SqlError> {
    Ok(Group {
        id: row.try_get("id")?,
        labels: Labels { name: row.try_get("name")?, description: row.try_get("description")? },
        created_ms: row.try_get("created_ms")?,
        created_by: row.try_get("created_by")?,
    })
}
