//! Signing keys.

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{
    engine::sql::SqlError,
    wire::event::audit::{AuditAction, AuditSubject},
};
use serde_json::json;
use sqlx::Row;

use super::{ChangeError, Mandate, Rights, unreadable};

/// A key pair that signs tokens.
pub(crate) struct StoredKey {
    pub(crate) kid: String,
    /// PKCS #1, DER.
    pub(crate) private_key: Vec<u8>,
    pub(crate) created_ms: i64,
}

#[derive(Clone)]
pub(crate) struct KeyRepository {
    rights: Rights,
}

impl KeyRepository {
    /// Most keys that are kept: each is published, and each may verify a token.
    const MOST: i64 = 16;

    pub(crate) fn new(rights: Rights) -> Self {
        Self { rights }
    }

    /// All keys, the newest first.
    pub(crate) async fn list(&self) -> Result<Vec<StoredKey>, SqlError> {
        let rows = sqlx::query(
            "SELECT kid, private_key, created_ms FROM signing_keys ORDER BY created_ms DESC, kid",
        )
        .fetch_all(self.rights.sql.pool()?)
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

    /// Adds a key that signs from now on, unless as many are kept as may be.
    pub(crate) async fn insert(&self, mandate: &Mandate, key: &StoredKey) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let row = sqlx::query("SELECT COUNT(*), COALESCE(MAX(created_ms), 0) FROM signing_keys");
        let row = row.fetch_one(&mut *change.tx).await?;
        if row.try_get::<i64, _>(0)? >= Self::MOST {
            return Err(ChangeError::TooMany);
        }
        // The newest signs, whatever the clocks of instances say.
        let created_ms = key.created_ms.max(row.try_get::<i64, _>(1)? + 1);
        sqlx::query("INSERT INTO signing_keys (kid, private_key, created_ms) VALUES ($1, $2, $3)")
            .bind(&key.kid)
            .bind(BASE64_STANDARD.encode(&key.private_key))
            .bind(created_ms)
            .execute(&mut *change.tx)
            .await?;
        change.commit(AuditAction::KeysRotate, AuditSubject::default(), json!({ "kid": key.kid })).await
    }

    /// Forgets keys whose successor has signed since `before_ms` or longer: no token of theirs is good any more.
    pub(crate) async fn forget(&self, before_ms: i64) -> Result<(), SqlError> {
        sqlx::query(
            "DELETE FROM signing_keys WHERE created_ms <
             (SELECT MAX(created_ms) FROM signing_keys WHERE created_ms <= $1)",
        )
        .bind(before_ms)
        .execute(self.rights.sql.pool()?)
        .await?;
        Ok(())
    }

    /// Adds a key unless there is one already, so that instances that start together agree on one.
    pub(crate) async fn insert_first(&self, key: &StoredKey) -> Result<(), SqlError> {
        let mut transaction = self.rights.sql.begin().await?;
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
