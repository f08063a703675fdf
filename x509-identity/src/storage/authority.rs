//! The authority's key and certificate, revoked serials, and the names of our own listeners.

use common::engine::{Sql, sql::SqlError};
use sqlx::Row;

use crate::domain::authority::Revoked;

/// There is one authority; the table has a name for it so that a successor can stand beside it.
const CURRENT: &str = "current";

#[derive(Clone)]
pub(crate) struct AuthorityRepository {
    sql: Sql,
}

impl AuthorityRepository {
    pub(crate) fn new(sql: Sql) -> Self {
        Self { sql }
    }

    /// Key and certificate, both in PEM.
    pub(crate) async fn load(&self) -> Result<Option<(String, String)>, SqlError> {
        let row = sqlx::query("SELECT key_pem, certificate_pem FROM authority WHERE name = $1")
            .bind(CURRENT)
            .fetch_optional(self.sql.pool()?)
            .await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?)
    }

    /// Stores a new authority unless another instance was faster.
    pub(crate) async fn store(&self, key_pem: &str, certificate_pem: &str) -> Result<(), SqlError> {
        sqlx::query(
            "INSERT INTO authority (name, key_pem, certificate_pem) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(CURRENT)
        .bind(key_pem)
        .bind(certificate_pem)
        .execute(self.sql.pool()?)
        .await?;
        Ok(())
    }

    /// Revoked certificates that would still be valid.
    pub(crate) async fn revoked(&self, now_ms: i64) -> Result<Vec<Revoked>, SqlError> {
        let rows =
            sqlx::query("SELECT serial, revoked_ms FROM revoked WHERE not_after_ms > $1 ORDER BY revoked_ms")
                .bind(now_ms)
                .fetch_all(self.sql.pool()?)
                .await?;
        let revoked: Result<_, sqlx::Error> = rows
            .iter()
            .map(|row| Ok(Revoked { serial: row.try_get("serial")?, revoked_ms: row.try_get("revoked_ms")? }))
            .collect();
        Ok(revoked?)
    }

    /// Remembers the names of a listener.
    pub(crate) async fn reserve(&self, names: &[String]) -> Result<(), SqlError> {
        for name in names {
            sqlx::query("INSERT INTO reserved_names (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
                .bind(name)
                .execute(self.sql.pool()?)
                .await?;
        }
        Ok(())
    }

    /// The names of all listeners.
    pub(crate) async fn reserved_names(&self) -> Result<Vec<String>, SqlError> {
        let rows = sqlx::query("SELECT name FROM reserved_names").fetch_all(self.sql.pool()?).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?)
    }
}
