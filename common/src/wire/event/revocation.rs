//! A user's tokens or permissions changed, on `dojot-management.tatami.revocation`. Gateways drop what they cached.

use serde::{Deserialize, Serialize};

/// Tells which cached decisions no longer hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The user, or everybody when absent (a permission or a group changed).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<i64>,
    /// When it was decided, milliseconds since the epoch.
    pub timestamp: i64,
}
