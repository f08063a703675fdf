//! Who is in which group, and who has which permission (dojot-api.md 2.5).

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use common::http::Problem;
use serde_json::Value;

use super::{
    actor::Actor,
    changed, done,
    group::lookup as lookup_group,
    not_allowed,
    permission::{UNKNOWN, UNKNOWN_OR_NAME, lookup as lookup_permission},
    user::lookup as lookup_user,
};
use crate::{
    access::AccessCache,
    domain::bootstrap::{ADMIN, ADMIN_GROUP_ID},
    storage::{
        ChangeError, GroupRepository, Link, PermissionRepository, Relation, RelationRepository, Thing,
        UserRepository,
    },
};

const UNKNOWN_GROUP: &str = "No group found with this ID or name";

/// Lets a user join a group. The user's tokens end.
pub(crate) async fn join_group(
    actor: Actor,
    Path((user, group)): Path<(String, String)>,
    State(users): State<UserRepository>,
    State(groups): State<GroupRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let holder = lookup_user(&users, &actor, &user).await?.id;
    let what = lookup_group(&groups, &group, UNKNOWN_GROUP).await?.id;
    let _change = access.change(Some(holder));
    let link = Link { relation: Relation::UserGroup, holder, what };
    add(&relations, &actor, link, "User is already a member of the group", UNKNOWN).await
}

/// Takes a user out of a group. The user's tokens end.
pub(crate) async fn leave_group(
    actor: Actor,
    Path((user, group)): Path<(String, String)>,
    State(users): State<UserRepository>,
    State(groups): State<GroupRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let user = lookup_user(&users, &actor, &user).await?;
    let what = lookup_group(&groups, &group, UNKNOWN_GROUP).await?.id;
    if user.username == ADMIN && what == ADMIN_GROUP_ID {
        return Err(not_allowed("Can't remove the admin user from the admin group"));
    }
    let _change = access.change(Some(user.id));
    let link = Link { relation: Relation::UserGroup, holder: user.id, what };
    remove(&relations, &actor, link, "User is not a member of the group", UNKNOWN).await
}

/// Gives a permission to a user.
pub(crate) async fn give_user_permission(
    actor: Actor,
    Path((user, permission)): Path<(String, String)>,
    State(users): State<UserRepository>,
    State(permissions): State<PermissionRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let holder = lookup_user(&users, &actor, &user).await?.id;
    let what = lookup_permission(&permissions, &permission, UNKNOWN).await?.id;
    let _change = access.change(Some(holder));
    let link = Link { relation: Relation::UserPermission, holder, what };
    add(&relations, &actor, link, "User already have this permission", UNKNOWN).await
}

/// Takes a permission from a user.
pub(crate) async fn take_user_permission(
    actor: Actor,
    Path((user, permission)): Path<(String, String)>,
    State(users): State<UserRepository>,
    State(permissions): State<PermissionRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let holder = lookup_user(&users, &actor, &user).await?.id;
    let what = lookup_permission(&permissions, &permission, UNKNOWN).await?.id;
    let _change = access.change(Some(holder));
    let link = Link { relation: Relation::UserPermission, holder, what };
    remove(&relations, &actor, link, "User does not have this permission", UNKNOWN).await
}

/// Gives a permission to all members of a group.
pub(crate) async fn give_group_permission(
    actor: Actor,
    Path((group, permission)): Path<(String, String)>,
    State(groups): State<GroupRepository>,
    State(permissions): State<PermissionRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let link = group_permission(&actor, &groups, &permissions, &group, &permission, UNKNOWN_OR_NAME).await?;
    let _change = access.change(None);
    add(&relations, &actor, link, "Group already have this permission", UNKNOWN_OR_NAME).await
}

/// Takes a permission from all members of a group.
pub(crate) async fn take_group_permission(
    actor: Actor,
    Path((group, permission)): Path<(String, String)>,
    State(groups): State<GroupRepository>,
    State(permissions): State<PermissionRepository>,
    State(relations): State<RelationRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let link = group_permission(&actor, &groups, &permissions, &group, &permission, UNKNOWN).await?;
    let _change = access.change(None);
    remove(&relations, &actor, link, "Group does not have this permission", UNKNOWN).await
}

async fn group_permission(
    actor: &Actor,
    groups: &GroupRepository,
    permissions: &PermissionRepository,
    group: &str,
    permission: &str,
    unknown_permission: &'static str,
) -> Result<Link, Problem> {
    if !actor.0.governs() {
        return Err(Problem::forbidden());
    }
    let holder = lookup_group(groups, group, UNKNOWN_GROUP).await?.id;
    let what = lookup_permission(permissions, permission, unknown_permission).await?.id;
    if holder == ADMIN_GROUP_ID {
        // It has all permissions, and with another one its members could be locked out.
        return Err(not_allowed("Can't edit admin group"));
    }
    Ok(Link { relation: Relation::GroupPermission, holder, what })
}

async fn add(
    relations: &RelationRepository,
    actor: &Actor,
    link: Link,
    already: &str,
    unknown_permission: &'static str,
) -> Result<Json<Value>, Problem> {
    relations.add(&actor.0, link).await.map_err(|error| match error {
        ChangeError::Already => Problem::new(StatusCode::CONFLICT, already),
        other => problem(other, unknown_permission),
    })?;
    Ok(done("ok"))
}

async fn remove(
    relations: &RelationRepository,
    actor: &Actor,
    link: Link,
    not_so: &str,
    unknown_permission: &'static str,
) -> Result<Json<Value>, Problem> {
    relations.remove(&actor.0, link).await.map_err(|error| match error {
        ChangeError::NotSo => Problem::not_found(not_so),
        other => problem(other, unknown_permission),
    })?;
    Ok(done("ok"))
}

fn problem(error: ChangeError, unknown_permission: &'static str) -> Problem {
    changed(error, |thing| match thing {
        Thing::User => "Unknown user id",
        Thing::Group => UNKNOWN_GROUP,
        Thing::Permission | Thing::Tenant => unknown_permission,
    })
}
