//! Certificates and their owners. Every change of an owner leaves with its event.

use common::{
    clock::date_of,
    engine::{
        Sql,
        outbox::{Event, Outbox},
        sql::SqlError,
    },
    wire::{
        DeviceId, Subject, Tenant,
        event::{OwnershipEvent, certificate},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use crate::domain::{Fingerprint, Issued};

/// A certificate as the API shows it (dojot-connectors.md 2.2).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub(crate) fingerprint: String,
    pub(crate) pem: String,
    #[serde(rename = "subjectDN")]
    pub(crate) subject_dn: String,
    validity: Value,
    created_at: String,
    modified_at: String,
    #[serde(rename = "issuedByDojotPki")]
    issued_by_dojot_pki: bool,
    auto_registered: bool,
    belongs_to: Value,
    tenant: Tenant,
    #[serde(skip)]
    pub(crate) device: Option<String>,
    #[serde(skip)]
    serial: String,
    #[serde(skip)]
    not_after_ms: i64,
}

/// Who owns a certificate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OwnedBy {
    tenant: String,
    device: String,
}

#[derive(Clone)]
pub(crate) struct CertificateRepository {
    sql: Sql,
    outbox: Outbox,
}

const COLUMNS: &str =
    "fingerprint, pem, subject_dn, serial, not_before_ms, not_after_ms, created_ms, modified_ms, device";

impl CertificateRepository {
    pub(crate) fn new(sql: Sql, outbox: Outbox) -> Self {
        Self { sql, outbox }
    }

    pub(crate) async fn insert(
        &self,
        tenant: &Tenant,
        issued: &Issued,
        device: Option<&DeviceId>,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        let mut transaction = self.sql.begin().await?;
        sqlx::query(
            "INSERT INTO certificates (tenant, fingerprint, pem, subject_dn, serial, not_before_ms, not_after_ms, \
             created_ms, modified_ms, device) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
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
        .execute(&mut *transaction)
        .await?;
        let change = Change {
            fingerprint: issued.fingerprint.as_str(),
            pem: &issued.pem,
            before: None,
            after: device.map(DeviceId::as_str),
        };
        self.announce(&mut transaction, tenant, change, now_ms).await?;
        self.commit(transaction).await
    }

    pub(crate) async fn lookup(
        &self,
        tenant: &Tenant,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Certificate>, SqlError> {
        let query = format!("SELECT {COLUMNS} FROM certificates WHERE tenant = $1 AND fingerprint = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(tenant.as_str())
            .bind(fingerprint.as_str())
            .fetch_optional(self.sql.pool()?)
            .await?;
        Ok(row.map(|row| certificate(tenant, &row)).transpose()?)
    }

    /// A page of certificates, the oldest first, and how many there are in all.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<Certificate>, i64), SqlError> {
        let pool = self.sql.pool()?;
        let query = format!(
            "SELECT {COLUMNS} FROM certificates WHERE tenant = $1 ORDER BY created_ms, fingerprint LIMIT $2 OFFSET $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(tenant.as_str())
            .bind(limit)
            .bind(offset)
            .fetch_all(pool)
            .await?;
        let total = sqlx::query("SELECT COUNT(*) FROM certificates WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_one(pool)
            .await?
            .try_get(0)?;
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
        let Some((pem, before)) = lock(&mut transaction, tenant, fingerprint.as_str()).await? else {
            return Ok(false);
        };
        let after = device.map(DeviceId::as_str);
        sqlx::query(
            "UPDATE certificates SET device = $1, modified_ms = $2 WHERE tenant = $3 AND fingerprint = $4",
        )
        .bind(after)
        .bind(now_ms)
        .bind(tenant.as_str())
        .bind(fingerprint.as_str())
        .execute(&mut *transaction)
        .await?;
        let change =
            Change { fingerprint: fingerprint.as_str(), pem: &pem, before: before.as_deref(), after };
        self.announce(&mut transaction, tenant, change, now_ms).await?;
        self.commit(transaction).await?;
        Ok(true)
    }

    /// Revokes and removes a certificate. Returns whether it existed.
    pub(crate) async fn revoke(
        &self,
        tenant: &Tenant,
        fingerprint: &Fingerprint,
        now_ms: i64,
    ) -> Result<bool, SqlError> {
        let Some(certificate) = self.lookup(tenant, fingerprint).await? else { return Ok(false) };
        let mut transaction = self.sql.begin().await?;
        let Some((pem, before)) = lock(&mut transaction, tenant, fingerprint.as_str()).await? else {
            return Ok(false);
        };
        sqlx::query("INSERT INTO revoked (serial, revoked_ms, not_after_ms) VALUES ($1, $2, $3) ON CONFLICT (serial) DO NOTHING")
            .bind(&certificate.serial)
            .bind(now_ms)
            .bind(certificate.not_after_ms)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM certificates WHERE tenant = $1 AND fingerprint = $2")
            .bind(tenant.as_str())
            .bind(fingerprint.as_str())
            .execute(&mut *transaction)
            .await?;
        let change =
            Change { fingerprint: fingerprint.as_str(), pem: &pem, before: before.as_deref(), after: None };
        self.announce(&mut transaction, tenant, change, now_ms).await?;
        self.commit(transaction).await?;
        Ok(true)
    }

    /// Takes all certificates of a device that is gone from it.
    pub(crate) async fn unlink_device(
        &self,
        tenant: &Tenant,
        device: &str,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        let rows = sqlx::query("SELECT fingerprint FROM certificates WHERE tenant = $1 AND device = $2")
            .bind(tenant.as_str())
            .bind(device)
            .fetch_all(self.sql.pool()?)
            .await?;
        for row in rows {
            let fingerprint: String = row.try_get(0)?;
            if let Some(fingerprint) = Fingerprint::parse(&fingerprint) {
                self.set_device(tenant, &fingerprint, None, now_ms).await?;
            }
        }
        Ok(())
    }

    /// The owner of a certificate of any tenant, for listeners that know only the certificate.
    pub(crate) async fn owner(&self, fingerprint: &Fingerprint) -> Result<Option<OwnedBy>, SqlError> {
        let row = sqlx::query(
            "SELECT tenant, device FROM certificates WHERE fingerprint = $1 AND device IS NOT NULL",
        )
        .bind(fingerprint.as_str())
        .fetch_optional(self.sql.pool()?)
        .await?;
        let owner =
            row.map(|row| Ok::<_, sqlx::Error>(OwnedBy { tenant: row.try_get(0)?, device: row.try_get(1)? }));
        Ok(owner.transpose()?)
    }

    async fn commit(&self, transaction: Transaction<'static, Any>) -> Result<(), SqlError> {
        transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Adds the event of a changed owner to the transaction (dojot-connectors.md 2.9).
    async fn announce(
        &self,
        transaction: &mut Transaction<'static, Any>,
        tenant: &Tenant,
        change: Change<'_>,
        now_ms: i64,
    ) -> Result<(), SqlError> {
        let Some(event_type) = change.event_type() else { return Ok(()) };
        let owner =
            |device: Option<&str>| device.map(|device| certificate::Owner { device: device.to_owned() });
        let event = OwnershipEvent {
            metadata: certificate::Metadata {
                msgid: Uuid::new_v4().to_string(),
                timestamp: now_ms,
                service: "x509-identity-mgmt".to_owned(),
                tenant: tenant.clone(),
                content_type: "application/vnd.dojot.x509-identities+json".to_owned(),
            },
            data: certificate::Data {
                event_type: event_type.to_owned(),
                event_data: certificate::Certificate {
                    fingerprint: change.fingerprint.to_owned(),
                    certificate_pem: change.pem.to_owned(),
                    issued_by_dojot_pki: true,
                    auto_registered: false,
                    belongs_to: owner(change.after),
                    previous_belongs_to: if event_type == "ownership.create" {
                        None
                    } else {
                        owner(change.before)
                    },
                },
            },
        };
        let device = change.after.or(change.before).unwrap_or_default();
        let event = Event {
            tenant,
            subject: Subject::CERTIFICATES,
            key: Some(format!("{tenant}:{device}")),
            value: json!(event).to_string(),
        };
        self.outbox.add(transaction, event).await
    }
}

/// A certificate whose owner may have changed.
struct Change<'a> {
    fingerprint: &'a str,
    pem: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl Change<'_> {
    fn event_type(&self) -> Option<&'static str> {
        match (self.before, self.after) {
            (None, Some(_)) => Some("ownership.create"),
            (Some(_), None) => Some("ownership.delete"),
            (Some(before), Some(after)) if before != after => Some("ownership.update"),
            _ => None,
        }
    }
}

/// Certificate and owner, kept from changing until the end of the transaction.
async fn lock(
    transaction: &mut Transaction<'static, Any>,
    tenant: &Tenant,
    fingerprint: &str,
) -> Result<Option<(String, Option<String>)>, SqlError> {
    // An update locks the row in both engines; `FOR UPDATE` exists in one only.
    let row = sqlx::query(
        "UPDATE certificates SET modified_ms = modified_ms WHERE tenant = $1 AND fingerprint = $2 RETURNING pem, device",
    )
    .bind(tenant.as_str())
    .bind(fingerprint)
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?)
}

fn certificate(tenant: &Tenant, row: &AnyRow) -> Result<Certificate, sqlx::Error> {
    let iso = |ms: i64| date_of(ms).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let device: Option<String> = row.try_get("device")?;
    let not_after_ms = row.try_get("not_after_ms")?;
    Ok(Certificate {
        fingerprint: row.try_get("fingerprint")?,
        pem: row.try_get("pem")?,
        subject_dn: row.try_get("subject_dn")?,
        validity: json!({ "notBefore": iso(row.try_get("not_before_ms")?), "notAfter": iso(not_after_ms) }),
        created_at: iso(row.try_get("created_ms")?),
        modified_at: iso(row.try_get("modified_ms")?),
        issued_by_dojot_pki: true,
        auto_registered: false,
        belongs_to: json!({ "device": device }),
        tenant: tenant.clone(),
        device,
        serial: row.try_get("serial")?,
        not_after_ms,
    })
}
