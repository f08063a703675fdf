//! Payload of a user's token.

use serde::{Deserialize, Serialize};

/// dojot's nine claims, in dojot's order (dojot-api.md 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Credential key of the user; it changes when the user's tokens are revoked.
    pub iss: String,
    /// Issue time, seconds since the epoch.
    pub iat: i64,
    /// Expiry, seconds since the epoch.
    pub exp: i64,
    /// Group name given when the user was created; dashboards read it.
    pub profile: String,
    /// Groups of the user at issue time; never used to decide.
    pub groups: Vec<i64>,
    /// Identifier of the user.
    pub userid: i64,
    /// 32 hex digits, different for every token.
    pub jti: String,
    /// The tenant, under dojot's name for it.
    pub service: String,
    /// Login name of the user.
    pub username: String,
    /// When the user logged in, seconds since the epoch: only in tokens that were given for another token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
}
