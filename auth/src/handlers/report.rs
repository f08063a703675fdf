//! What somebody has, and who has something (dojot-api.md 2.5). Here an empty list is no error.

use axum::{
    Json,
    extract::{FromRef, FromRequestParts, Path, State},
    http::request::Parts,
};
use common::http::Problem;
use serde_json::{Value, json};

use super::{
    actor::Actor,
    group::{self, lookup as lookup_group},
    listed::UserList,
    permission,
    user::lookup as lookup_user,
};
use crate::{
    AppState,
    domain::{group::Group, user::User},
    storage::{GroupRepository, PermissionRepository, Selection, UserRepository},
};

/// What dojot says when there is no such group to report about.
pub(super) const UNKNOWN_GROUP: &str = "No group found with this name or ID";

/// The user whom the path names, if the caller sees him.
pub(crate) struct NamedUser(User);

impl FromRequestParts<AppState> for NamedUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let actor = Actor::from_request_parts(parts, state).await?;
        let user = name(parts, state).await?;
        lookup_user(&FromRef::from_ref(state), &actor, &user).await.map(Self)
    }
}

/// The group that the path names, and who asks about it.
pub(crate) struct NamedGroup(Actor, Group);

impl FromRequestParts<AppState> for NamedGroup {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let actor = Actor::from_request_parts(parts, state).await?;
        let group = name(parts, state).await?;
        Ok(Self(actor, lookup_group(&FromRef::from_ref(state), &group, UNKNOWN_GROUP).await?))
    }
}

/// The one parameter of the path.
async fn name(parts: &mut Parts, state: &AppState) -> Result<String, Problem> {
    let Path(name) = Path::from_request_parts(parts, state)
        .await
        .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    Ok(name)
}

/// Permissions that a user has directly.
pub(crate) async fn list_direct_permissions(
    NamedUser(user): NamedUser,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let found = permissions.directly_of_user(user.id).await?;
    Ok(Json(json!({ "permissions": permission::listed(found) })))
}

/// Permissions that a user has directly and through groups, each once.
pub(crate) async fn list_all_permissions(
    NamedUser(user): NamedUser,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let found = permissions.of_user(user.id).await?;
    Ok(Json(json!({ "permissions": permission::listed(found) })))
}

/// Groups of a user.
pub(crate) async fn list_groups_of_user(
    NamedUser(user): NamedUser,
    State(groups): State<GroupRepository>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "groups": group::listed(groups.of_user(user.id).await?) })))
}

/// Permissions of a group.
pub(crate) async fn list_permissions_of_group(
    NamedGroup(_, group): NamedGroup,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "permissions": permission::listed(permissions.of_group(group.id).await?) })))
}

/// Members of a group whom the caller sees.
pub(crate) async fn list_users_of_group(
    NamedGroup(actor, group): NamedGroup,
    State(users): State<UserRepository>,
) -> Result<UserList, Problem> {
    UserList::begin(users, actor.0.scope, Selection::Members(group.id)).await
}
