//! What somebody has, and who has something (dojot-api.md 2.5). Here an empty list is no error.

use axum::{
    Json,
    extract::{Path, State},
};
use common::http::Problem;
use serde_json::{Value, json};

use super::{
    actor::Actor,
    group::{self, lookup as lookup_group},
    permission,
    user::{UserOut, lookup as lookup_user},
};
use crate::storage::{GroupRepository, PermissionRepository, UserRepository};

/// What dojot says when there is no such group to report about.
pub(super) const UNKNOWN_GROUP: &str = "No group found with this name or ID";

/// Permissions that a user has directly.
pub(crate) async fn list_direct_permissions(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let user = lookup_user(&users, &actor, &user).await?;
    let found = permissions.directly_of_user(user.id).await?;
    Ok(Json(json!({ "permissions": permission::listed(found) })))
}

/// Permissions that a user has directly and through groups, each once.
pub(crate) async fn list_all_permissions(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let user = lookup_user(&users, &actor, &user).await?;
    let found = permissions.of_user(user.id).await?;
    Ok(Json(json!({ "permissions": permission::listed(found) })))
}

/// Groups of a user.
pub(crate) async fn list_groups_of_user(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
    State(groups): State<GroupRepository>,
) -> Result<Json<Value>, Problem> {
    let user = lookup_user(&users, &actor, &user).await?;
    Ok(Json(json!({ "groups": group::listed(groups.of_user(user.id).await?) })))
}

/// Permissions of a group.
pub(crate) async fn list_permissions_of_group(
    _: Actor,
    Path(group): Path<String>,
    State(groups): State<GroupRepository>,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let group = lookup_group(&groups, &group, UNKNOWN_GROUP).await?;
    Ok(Json(json!({ "permissions": permission::listed(permissions.of_group(group.id).await?) })))
}

/// Members of a group whom the caller sees.
pub(crate) async fn list_users_of_group(
    actor: Actor,
    Path(group): Path<String>,
    State(groups): State<GroupRepository>,
) -> Result<Json<Value>, Problem> {
    let group = lookup_group(&groups, &group, UNKNOWN_GROUP).await?;
    let members = groups.members(&actor.0.scope, group.id).await?;
    let members: Vec<UserOut> = members.into_iter().map(UserOut::from).collect();
    Ok(Json(json!({ "users": members })))
}
