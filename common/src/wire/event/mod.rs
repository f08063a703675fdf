//! Messages on the log, one file per kind.

pub mod audit;
pub mod certificate;
pub mod device;
pub mod device_data;
pub mod revocation;
pub mod tenancy;

pub use audit::AuditEvent;
pub use certificate::OwnershipEvent;
pub use device::DeviceEvent;
pub use device_data::DeviceData;
pub use revocation::Revocation;
pub use tenancy::TenancyEvent;

use super::{DeviceId, Tenant};

/// The record key that keeps the order of a device: `{tenant}:{deviceid}`.
pub fn device_key(tenant: &Tenant, device: &DeviceId) -> String {
    format!("{tenant}:{device}")
}
