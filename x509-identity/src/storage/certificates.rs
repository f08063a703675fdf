//! Certificates and their owners. Every change of an owner leaves with its event.

use common::{
    clock::date_of,
    engine::{
        Sql,
        outbox::Outbox,
        purge::{fence, purge},
        sql::SqlError,
    },
    tenancy::Removal,
    wire::{DeviceId, Tenant},
};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};

use super::search::Search;
use crate::{
    domain::{Fingerprint, Issued, filter::Condition},
    events::Change,
};

/// A certificate as the API shows it (dojot-connectors.md 2.2).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    fingerprint: String,
    pem: String,
    #[serde(rename = "subjectDN")]
    subject_dn: String,
    validity: Value,
    created_at: String,
    modified_at: String,
    issued_by_dojot_pki: bool,
    auto_registered: bool,
    belongs_to: Value,
    tenant: Tenant,
}

/// Who owns a certificate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OwnedBy {
    tenant: String,
    device: String,
    /// Which of the tenants that have had this name; 0 when nobody knows.
    generation: i64,
}

#[derive(Clone)]
pub(crate) struct CertificateRepository {
    sql: Sql,
    outbox: Outbox,
}

const COLUMNS: &str =
    "fingerprint, pem, subject_dn, not_before_ms, not_after_ms, created_ms, modified_ms, device";

impl CertificateRepository {
    pub(crate) fn new(sql: Sql, outbox: Outbox) -> Self {
        Self { sql, outbox }
    }

    pub(crate) async fn insert(
        &self,
        tenant: &Tenant,
        generation: i64,
        issued: &Issued,
        device: Option<&DeviceId>,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        let mut transaction = self.sql.begin().await?;
        fence(&mut transaction, tenant, generation).await?;
        sqlx::query(
            "INSERT INTO certificates (tenant, fingerprint, pem, subject_dn, serial, not_before_ms, not_after_ms, \
             created_ms, modified_ms, device, generation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10)",
        )
        .bind(tenant.as_str())
        .bind(issued.fingerprint.as_str())
        .bind(&issued.pem)
        .bind(&issued.subject_dn)
        .bind(&issued.serial)
        .bind(issued.not_before_ms)
        .bind(issued.not_after_ms)
        .bind(now_ms)
        .bind(device.map(DeviceId::as_str))
        .bind(generation)
        .execute(&mut *transaction)
        .await?;
        let change = Change {
            fingerprint: issued.fingerprint.as_str(),
            pem: &issued.pem,
            before: None,
            after: device.map(DeviceId::as_str),
        };
        self.announce_and_commit(transaction, tenant, change, now_ms).await
    }

    pub(crate) async fn lookup(
        &self,
        tenant: &Tenant,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Certificate>, SqlError> {
        let query = format!("SELECT {COLUMNS} FROM certificates WHERE tenant = $1 AND fingerprint = $2");
        let row = sqlx::query(AssertSqlSafe(query))
            .bind(tenant.as_str())
            .bind(fingerprint.as_str())
            .fetch_optional(self.sql.pool()?)
            .await?;
        Ok(row.map(|row| certificate(tenant, &row)).transpose()?)
    }

    /// A page of the certificates for which all conditions hold, the oldest first, and how many there are in all.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        conditions: &[Condition],
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<Certificate>, i64), SqlError> {
        let pool = self.sql.pool()?;
        let search = Search::new(tenant, conditions);
        let total = search.count().fetch_one(pool).await?.try_get(0)?;
        let rows = search.page(COLUMNS, offset, limit).fetch_all(pool).await?;
        let page: Result<_, sqlx::Error> = rows.iter().map(|row| certificate(tenant, row)).collect();
        Ok((page?, total))
    }

    /// Gives a certificate to a device, or to nobody. Returns whether the certificate exists.
    pub(crate) async fn set_device(
        &self,
        tenant: &Tenant,
        fingerprint: &Fingerprint,
        device: Option<&DeviceId>,
        now_ms: i64,
    ) -> Result<bool, SqlError> {
        let mut transaction = self.sql.begin().await?;
        // The first update locks the row in both engines, so the owner that it returns is the one that is replaced.
        let row = sqlx::query(
            "UPDATE certificates SET modified_ms = $1 WHERE tenant = $2 AND fingerprint = $3 RETURNING pem, device",
        )
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(fingerprint.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let (pem, before): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let after = device.map(DeviceId::as_str);
        sqlx::query("UPDATE certificates SET device = $1 WHERE tenant = $2 AND fingerprint = $3")
            .bind(after)
            .bind(tenant.as_str())
            .bind(fingerprint.as_str())
            .execute(&mut *transaction)
            .await?;
        let change =
            Change { fingerprint: fingerprint.as_str(), pem: &pem, before: before.as_deref(), after };
        self.announce_and_commit(transaction, tenant, change, now_ms).await?;
        Ok(true)
    }

    /// Revokes and removes a certificate. Returns whether it existed.
    pub(crate) async fn revoke(
        &self,
        tenant: &Tenant,
        fingerprint: &Fingerprint,
        now_ms: i64,
    ) -> Result<bool, SqlError> {
        let mut transaction = self.sql.begin().await?;
        let row = sqlx::query(
            "DELETE FROM certificates WHERE tenant = $1 AND fingerprint = $2 \
             RETURNING pem, device, serial, not_after_ms",
        )
        .bind(tenant.as_str())
        .bind(fingerprint.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let (pem, before): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        sqlx::query("INSERT INTO revoked (serial, revoked_ms, not_after_ms) VALUES ($1, $2, $3)")
            .bind(row.try_get::<String, _>(2)?)
            .bind(now_ms)
            .bind(row.try_get::<i64, _>(3)?)
            .execute(&mut *transaction)
            .await?;
        let change =
            Change { fingerprint: fingerprint.as_str(), pem: &pem, before: before.as_deref(), after: None };
        self.announce_and_commit(transaction, tenant, change, now_ms).await?;
        Ok(true)
    }

    /// Takes all certificates of a device that is gone from it.
    pub(crate) async fn unlink_device(
        &self,
        tenant: &Tenant,
        device: &DeviceId,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        let mut transaction = self.sql.begin().await?;
        let rows = sqlx::query(
            "UPDATE certificates SET device = NULL, modified_ms = $1 WHERE tenant = $2 AND device = $3 \
             RETURNING fingerprint, pem",
        )
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(device.as_str())
        .fetch_all(&mut *transaction)
        .await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let (fingerprint, pem): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let before = Some(device.as_str());
            let change = Change { fingerprint: &fingerprint, pem: &pem, before, after: None };
            events.extend(change.event(tenant, now_ms));
        }
        self.outbox.add_all(&mut transaction, events).await?;
        self.commit(transaction).await
    }

    /// Revokes and removes all certificates of a tenant that is gone; tries until it is done. There is nobody left to be
    /// told.
    pub(crate) async fn remove_tenant(&self, removal: &Removal, now_ms: i64) {
        purge(&self.sql, removal, |transaction, tenant| Box::pin(revoke_some(transaction, tenant, now_ms)))
            .await;
    }

    /// The owner of a certificate of any tenant, for listeners that know only the certificate.
    pub(crate) async fn owner(&self, fingerprint: &Fingerprint) -> Result<Option<OwnedBy>, SqlError> {
        let row = sqlx::query(
            "SELECT tenant, device, generation FROM certificates WHERE fingerprint = $1 AND device IS NOT NULL",
        )
        .bind(fingerprint.as_str())
        .fetch_optional(self.sql.pool()?)
        .await?;
        let owner = row.map(|row| {
            let (tenant, device, generation) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok::<_, sqlx::Error>(OwnedBy { tenant, device, generation })
        });
        Ok(owner.transpose()?)
    }

    async fn announce_and_commit(
        &self,
        mut transaction: Transaction<'static, Any>,
        tenant: &Tenant,
        change: Change<'_>,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        if let Some(event) = change.event(tenant, now_ms) {
            self.outbox.add(&mut transaction, event).await?;
        }
        self.commit(transaction).await
    }

    async fn commit(&self, transaction: Transaction<'static, Any>) -> Result<(), SqlError> {
        transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }
}

/// Revokes and removes some certificates of a tenant; returns how many.
async fn revoke_some(
    transaction: &mut Transaction<'static, Any>,
    tenant: &Tenant,
    now_ms: i64,
) -> Result<u64, SqlError> {
    const BATCH: i64 = 500;
    let rows = sqlx::query(
        "DELETE FROM certificates WHERE tenant = $1 AND fingerprint IN
             (SELECT fingerprint FROM certificates WHERE tenant = $1 LIMIT $2)
         RETURNING serial, not_after_ms",
    )
    .bind(tenant.as_str())
    .bind(BATCH)
    .fetch_all(&mut **transaction)
    .await?;
    for row in &rows {
        sqlx::query("INSERT INTO revoked (serial, revoked_ms, not_after_ms) VALUES ($1, $2, $3)")
            .bind(row.try_get::<String, _>(0)?)
            .bind(now_ms)
            .bind(row.try_get::<i64, _>(1)?)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(rows.len() as u64)
}

fn certificate(tenant: &Tenant, row: &AnyRow) -> Result<Certificate, sqlx::Error> {
    let iso = |column: &str| {
        let ms = row.try_get(column)?;
        Ok::<_, sqlx::Error>(date_of(ms).to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    };
    let device: Option<String> = row.try_get("device")?;
    Ok(Certificate {
        fingerprint: row.try_get("fingerprint")?,
        pem: row.try_get("pem")?,
        subject_dn: row.try_get("subject_dn")?,
        validity: json!({ "notBefore": iso("not_before_ms")?, "notAfter": iso("not_after_ms")? }),
        created_at: iso("created_ms")?,
        modified_at: iso("modified_ms")?,
        issued_by_dojot_pki: true,
        auto_registered: false,
        belongs_to: json!({ "device": device }),
        tenant: tenant.clone(),
    })
}
