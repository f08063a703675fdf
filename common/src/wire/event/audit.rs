//! An administrative change, on `dojot-management.tatami.audit`: who did what to whom. Nothing in it is a secret.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::Tenant;

/// One change of users, groups, permissions, who has them, or passwords. It leaves with the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When, milliseconds since the epoch.
    pub timestamp: i64,
    /// Who did it. Absent when nobody needs a token for it (a forgotten password).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caller: Option<AuditedUser>,
    /// What was done.
    pub action: AuditAction,
    /// What it was done to.
    pub subject: AuditSubject,
    /// What it has become since then, where there is more to tell.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    pub detail: Value,
    /// `X-Request-Id` of the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAction {
    /// A user was created; the detail has the groups that were joined.
    #[serde(rename = "user.create")]
    UserCreate,
    /// Name, e-mail address or tenant of a user changed.
    #[serde(rename = "user.update")]
    UserUpdate,
    /// A user was removed.
    #[serde(rename = "user.remove")]
    UserRemove,
    /// A user joined a group.
    #[serde(rename = "user.join-group")]
    UserJoinGroup,
    /// A user left a group.
    #[serde(rename = "user.leave-group")]
    UserLeaveGroup,
    /// A user was given a permission.
    #[serde(rename = "user.give-permission")]
    UserGivePermission,
    /// A permission was taken from a user.
    #[serde(rename = "user.take-permission")]
    UserTakePermission,
    /// A user changed the own password.
    #[serde(rename = "user.change-password")]
    UserChangePassword,
    /// Somebody asked for a link that sets a new password.
    #[serde(rename = "user.ask-for-password")]
    UserAskForPassword,
    /// A password was set with such a link.
    #[serde(rename = "user.set-password")]
    UserSetPassword,
    /// A group was created.
    #[serde(rename = "group.create")]
    GroupCreate,
    /// Name or description of a group changed.
    #[serde(rename = "group.update")]
    GroupUpdate,
    /// A group was removed.
    #[serde(rename = "group.remove")]
    GroupRemove,
    /// A group was given a permission.
    #[serde(rename = "group.give-permission")]
    GroupGivePermission,
    /// A permission was taken from a group.
    #[serde(rename = "group.take-permission")]
    GroupTakePermission,
    /// A permission was created.
    #[serde(rename = "permission.create")]
    PermissionCreate,
    /// A permission changed.
    #[serde(rename = "permission.update")]
    PermissionUpdate,
    /// A permission was removed.
    #[serde(rename = "permission.remove")]
    PermissionRemove,
    /// A tenant was made on purpose.
    #[serde(rename = "tenant.create")]
    TenantCreate,
    /// A tenant was removed on purpose; the detail has the number of its users.
    #[serde(rename = "tenant.remove")]
    TenantRemove,
    /// A new key signs tokens; the detail has its name.
    #[serde(rename = "keys.rotate")]
    KeysRotate,
}

/// What was changed: one thing, or two whose relation was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSubject {
    /// A user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<AuditedUser>,
    /// A group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<AuditedThing>,
    /// A permission.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub permission: Option<AuditedThing>,
    /// A tenant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tenant: Option<Tenant>,
}

/// A user, or one of the platform's services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedUser {
    /// Identifier; 0 for services.
    pub id: i64,
    /// Login name, or name of the service.
    pub username: String,
    /// The tenant at that moment.
    pub tenant: Tenant,
}

/// A group or a permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedThing {
    /// Identifier.
    pub id: i64,
    /// The name at that moment.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_reads_and_writes() {
        let sample = concat!(
            r#"{"timestamp":1795167136000,"caller":{"id":1,"username":"admin","tenant":"admin"},"#,
            r#""action":"user.join-group","subject":{"user":{"id":2,"username":"joao","tenant":"tenant1"},"#,
            r#""group":{"id":3,"name":"ops"}},"request_id":"r1"}"#
        );
        let event: AuditEvent = serde_json::from_str(sample).unwrap();
        assert_eq!(event.action, AuditAction::UserJoinGroup);
        assert_eq!(serde_json::to_string(&event).unwrap(), sample);
        let least = r#"{"timestamp":1,"action":"user.ask-for-password","subject":{}}"#;
        let event: AuditEvent = serde_json::from_str(least).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), least);
    }
}
