//! Tenants that come and go on purpose.

use common::wire::{
    Tenant,
    event::audit::{AuditAction, AuditSubject},
};
use serde_json::{Value, json};

use super::{ChangeError, Mandate, Rights, TenantRepository, Thing, ids};

/// Makes tenants and removes them with everything they have. They belong to the platform. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TenantChanges {
    rights: Rights,
    tenants: TenantRepository,
}

impl TenantChanges {
    pub(crate) fn new(rights: Rights, tenants: TenantRepository) -> Self {
        Self { rights, tenants }
    }

    /// Makes a tenant that stays without users.
    pub(crate) async fn create(&self, mandate: &Mandate, tenant: &Tenant) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        if !self.tenants.found(change.outbox, &mut change.tx, tenant).await? {
            return Err(ChangeError::Already);
        }
        change.commit(AuditAction::TenantCreate, subject(tenant), Value::Null).await
    }

    /// Removes a tenant with all its users and their tokens. What the services keep of it goes afterwards.
    pub(crate) async fn remove(&self, mandate: &Mandate, tenant: &Tenant) -> Result<(), ChangeError> {
        let mut change = self.rights.govern(mandate).await?;
        let users = sqlx::query("DELETE FROM users WHERE tenant = $1 RETURNING id")
            .bind(tenant.as_str())
            .fetch_all(&mut *change.tx)
            .await?;
        let users = ids(&users)?;
        change.tokens_ended(&users).await?;
        if !self.tenants.end(change.outbox, &mut change.tx, tenant).await? {
            return Err(ChangeError::Unknown(Thing::Tenant));
        }
        let detail = json!({ "users": users.len() });
        change.commit(AuditAction::TenantRemove, subject(tenant), detail).await
    }
}

fn subject(tenant: &Tenant) -> AuditSubject {
    AuditSubject { tenant: Some(tenant.clone()), ..AuditSubject::default() }
}
