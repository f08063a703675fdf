//! Signing keys.

use base64::{Engine, prelude::BASE64_STANDARD};
use common::engine::{Sql, sql::SqlError};
use sqlx::Row;

use super::unreadable;

/// A key pair that signs tokens.
pub(crate) struct StoredKey {
    pub(crate) kid: String,
    /// PKCS #1, DER.
    pub(crate) private_key: Vec<u8>,
    pub(crate) created_ms: i64,
}

#[derive(Clone)]
pub(crate) struct KeyRepository {
    sql: Sql,
}

impl KeyRepository {
    pub(crate) fn new(sql: Sql) -> Self {
        Self { sql }
    }

    /// All keys, the newest first.
    pub(crate) async fn list(&self) -> Result<Vec<StoredKey>, SqlError> {
        let rows = sqlx::query(
            "SELECT kid, private_key, created_ms FROM signing_keys ORDER BY created_ms DESC, kid",
        )
        .fetch_all(self.sql.pool()?)
        .await?;
        rows.iter()
            .map(|row| {
                let private_key: String = row.try_get("private_key")?;
                Ok(StoredKey {
                    kid: row.try_get("kid")?,
                    private_key: BASE64_STANDARD.decode(private_key).map_err(unreadable)?,
                    created_ms: row.try_get("created_ms")?,
                })
            })
            .collect()
    }

    /// Adds a key unless there is one already, so that instances that start together agree on one.
    pub(crate) async fn insert_first(&self, key: &StoredKey) -> Result<(), SqlError> {
        let mut transaction = self.sql.begin().await?;
        // Whoever comes second waits here for the first.
        super::next_id(&mut transaction, "signing_keys").await?;
        sqlx::query(
            "INSERT INTO signing_keys (kid, private_key, created_ms)
             SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM signing_keys)",
        )
        .bind(&key.kid)
        .bind(BASE64_STANDARD.encode(&key.private_key))
        .bind(key.created_ms)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
