//! Hashes of the passwords of devices.

use common::{
    engine::sql::SqlError,
    wire::{DeviceId, Tenant},
};
use sqlx::Row;

use super::{Change, Store, statement::Statement};

/// What is kept of a device's password.
pub(crate) struct StoredCredential {
    /// Its hash.
    pub(crate) hash: String,
    /// When it was issued, milliseconds since the epoch; each password of a device has a later one than the one before.
    pub(crate) issued_ms: i64,
    /// Which of the tenants that have had this name issued it; 0 when nobody knows.
    pub(crate) generation: i64,
}

impl Store {
    /// The password of a device.
    pub(crate) async fn credential(
        &self,
        tenant: &Tenant,
        device: &DeviceId,
    ) -> Result<Option<StoredCredential>, SqlError> {
        let row = sqlx::query(
            "SELECT hash, created_ms, generation FROM credentials WHERE tenant = $1 AND device_id = $2",
        )
        .bind(tenant.as_str())
        .bind(device.as_str())
        .fetch_optional(&mut *self.connection().await?)
        .await?;
        let stored = row.map(|row| {
            let (hash, issued_ms, generation) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok::<_, sqlx::Error>(StoredCredential { hash, issued_ms, generation })
        });
        Ok(stored.transpose()?)
    }
}

impl Change {
    /// Sets or replaces the hash of a device's password. Returns when it was issued, `None` when there is no such device.
    pub(crate) async fn put_credential(
        &mut self,
        device: &DeviceId,
        hash: &str,
    ) -> Result<Option<i64>, SqlError> {
        let row = sqlx::query(
            "INSERT INTO credentials (tenant, device_id, hash, created_ms, generation)
             SELECT tenant, id, $3, $4, $5 FROM devices WHERE tenant = $1 AND id = $2
             ON CONFLICT (tenant, device_id) DO UPDATE SET hash = excluded.hash, generation = excluded.generation,
                 created_ms = CASE WHEN excluded.created_ms > credentials.created_ms
                     THEN excluded.created_ms ELSE credentials.created_ms + 1 END
             RETURNING created_ms",
        )
        .bind(self.tenant.as_str())
        .bind(device.as_str())
        .bind(hash)
        .bind(self.now_ms)
        .bind(self.generation)
        .fetch_optional(&mut *self.transaction)
        .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Removes the password of a device, or of all when none is named; returns the devices that had one.
    pub(crate) async fn delete_credentials(&mut self, device: Option<&str>) -> Result<Vec<String>, SqlError> {
        let mut statement = Statement::new(&self.tenant);
        statement.push("DELETE FROM credentials WHERE tenant = $1");
        if let Some(device) = device {
            let device = statement.arg(device);
            statement.push(" AND device_id = ").push(&device);
        }
        statement.push(" RETURNING device_id");
        let rows = statement.fetch(&mut self.transaction).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
