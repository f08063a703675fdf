//! SQL. Rows stay private.

mod access;
mod announce;
mod first_start;
mod keys;
mod tenants;
mod users;

pub(crate) use access::{AccessRepository, Grant, Holder};
pub(crate) use first_start::FirstStartRepository;
pub(crate) use keys::{KeyRepository, StoredKey};
pub(crate) use tenants::{Existing, Removal, TenantRepository};
pub(crate) use users::{Credentials, Mandate, Standing, UserError, UserRepository};

use common::engine::sql::SqlError;
use sqlx::{Any, Row, Transaction, any::AnyRow};

type Tx = Transaction<'static, Any>;

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
