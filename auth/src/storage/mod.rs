//! SQL. Rows stay private.

mod access;
mod announce;
mod first_start;
mod groups;
mod keys;
mod mandate;
mod passwords;
mod permissions;
mod relations;
mod rights;
mod tenant_changes;
mod tenants;
mod users;

pub(crate) use access::{AccessRepository, Holder};
pub(crate) use first_start::FirstStartRepository;
pub(crate) use groups::GroupRepository;
pub(crate) use keys::{KeyRepository, StoredKey};
pub(crate) use mandate::{Mandate, Standing};
pub(crate) use passwords::{Mail, MailKind, NewPassword, PasswordRepository, Secrets};
pub(crate) use permissions::PermissionRepository;
pub(crate) use relations::{Link, Relation, RelationRepository};
pub(crate) use rights::Rights;
pub(crate) use tenant_changes::TenantChanges;
pub(crate) use tenants::{Existing, Removal, TenantRepository};
pub(crate) use users::{Credentials, Selection, UserRepository};

use common::{engine::sql::SqlError, wire::Tenant};
use sqlx::{Any, Row, Transaction, any::AnyRow};

type Tx = Transaction<'static, Any>;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    User,
    Group,
    Permission,
    Tenant,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("the user name is in use")]
    UsernameTaken,
    #[error("the e-mail address is in use")]
    EmailTaken,
    #[error("the name is in use")]
    NameTaken,
    #[error("there is no such thing: {0:?}")]
    Unknown(Thing),
    #[error("a former tenant of this name is still being removed")]
    TenantIsBeingRemoved,
    /// Who asks was removed, moved or lost power since the request began.
    #[error("who asks may not do this any more")]
    MandateEnded,
    /// The PDP permits the request, but not for this.
    #[error("who asks may not do this")]
    Forbidden,
    /// A relation that is there already.
    #[error("it is so already")]
    Already,
    /// A relation that is not there.
    #[error("it is not so")]
    NotSo,
    /// The user `admin` could not manage users and permissions any more.
    #[error("the user admin would be locked out")]
    LocksAdminOut,
    /// There are as many as there may be.
    #[error("there are too many")]
    TooMany,
    #[error(transparent)]
    Storage(SqlError),
}

impl From<SqlError> for ChangeError {
    fn from(error: SqlError) -> Self {
        match &error {
            SqlError::Constraint { constraint } if constraint.contains("email") => Self::EmailTaken,
            SqlError::Constraint { constraint } if constraint.contains("username") => Self::UsernameTaken,
            _ => Self::Storage(error),
        }
    }
}

impl From<sqlx::Error> for ChangeError {
    fn from(error: sqlx::Error) -> Self {
        SqlError::from(error).into()
    }
}

/// A database that refuses its own data: a bug, or somebody has changed rows by hand.
fn unreadable(what: impl std::fmt::Display) -> SqlError {
    SqlError::Failed(sqlx::Error::Protocol(format!("a stored value cannot be read: {what}")))
}

/// The next identifier of a kind. Whoever has one holds the row until the end of the transaction, so those who
/// create things of one kind come one after the other, and identifiers have no gaps.
async fn next_id(tx: &mut Tx, kind: &'static str) -> Result<i64, SqlError> {
    let row = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    )
    .bind(kind)
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get("value")?)
}

fn ids(rows: &[AnyRow]) -> Result<Vec<i64>, SqlError> {
    rows.iter().map(|row| row.try_get(0).map_err(SqlError::from)).collect()
}

fn tenant_of(row: &AnyRow) -> Result<Tenant, SqlError> {
    Tenant::try_from(row.try_get::<String, _>("tenant")?).map_err(unreadable)
}
