//! A tenant came or went (dojot-api.md 2.8), on `dojot-management.dojot.tenancy`.

use serde::{Deserialize, Serialize};

use crate::wire::Tenant;

/// `{"type":"CREATE","tenant":"tenant1"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenancyEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: TenancyKind,
    /// To which tenant.
    pub tenant: Tenant,
}

/// Written in capitals; read in either case, as dojot's libraries do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenancyKind {
    /// The tenant has its first user.
    #[serde(rename = "CREATE", alias = "create")]
    Create,
    /// The tenant has lost its last user.
    #[serde(rename = "DELETE", alias = "delete")]
    Delete,
}
