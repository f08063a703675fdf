//! Who is in which group, and who has which permission (dojot-api.md 2.5).

use axum::{
    extract::{FromRef, Path, State},
    http::StatusCode,
    routing::{MethodRouter, post},
};
use common::http::Problem;

use super::{
    actor::Actor,
    changed, done,
    group::lookup as lookup_group,
    not_allowed,
    permission::{UNKNOWN, UNKNOWN_OR_NAME, lookup as lookup_permission},
    user::lookup as lookup_user,
};
use crate::{
    AppState,
    access::AccessCache,
    domain::bootstrap::{ADMIN, ADMIN_GROUP_ID},
    storage::{
        ChangeError, GroupRepository, Link, PermissionRepository, Relation, RelationRepository, Thing,
        UserRepository,
    },
};

const UNKNOWN_GROUP: &str = "No group found with this ID or name";

/// What it takes to relate users, groups and permissions.
#[derive(Clone)]
pub(crate) struct Desk {
    users: UserRepository,
    groups: GroupRepository,
    permissions: PermissionRepository,
    relations: RelationRepository,
    access: AccessCache,
}

impl FromRef<AppState> for Desk {
    fn from_ref(state: &AppState) -> Self {
        Self {
            users: FromRef::from_ref(state),
            groups: FromRef::from_ref(state),
            permissions: FromRef::from_ref(state),
            relations: FromRef::from_ref(state),
            access: FromRef::from_ref(state),
        }
    }
}

/// The methods of a relation's path, which names who has something and what it is: POST gives it, DELETE takes it away.
pub(crate) fn methods(relation: Relation) -> MethodRouter<AppState> {
    let change = |gives: bool| {
        move |actor: Actor, Path((holder, what)): Path<(String, String)>, State(desk): State<Desk>| async move {
            desk.change(&actor, relation, gives, &holder, &what).await.map(|()| done("ok"))
        }
    };
    post(change(true)).delete(change(false))
}

impl Desk {
    /// Relates two things, or ends it. Both are as a path names them.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        relation: Relation,
        gives: bool,
        holder: &str,
        what: &str,
    ) -> Result<(), Problem> {
        // Only where something is given to a group, dojot mentions names.
        let unknown = match (relation, gives) {
            (Relation::GroupPermission, true) => UNKNOWN_OR_NAME,
            _ => UNKNOWN,
        };
        let link = match relation {
            Relation::UserGroup => self.membership(actor, gives, holder, what).await?,
            Relation::UserPermission => {
                let holder = lookup_user(&self.users, actor, holder).await?.id;
                let what = lookup_permission(&self.permissions, what, unknown).await?.id;
                Link { relation, holder, what }
            }
            Relation::GroupPermission => self.group_permission(actor, holder, what, unknown).await?,
        };
        let concerned = (relation != Relation::GroupPermission).then_some(link.holder);
        let _change = self.access.change(concerned);
        let changed = if gives {
            self.relations.add(&actor.0, link).await
        } else {
            self.relations.remove(&actor.0, link).await
        };
        changed.map_err(|error| problem(error, relation, unknown))
    }

    async fn membership(&self, actor: &Actor, gives: bool, user: &str, group: &str) -> Result<Link, Problem> {
        let user = lookup_user(&self.users, actor, user).await?;
        let what = lookup_group(&self.groups, group, UNKNOWN_GROUP).await?.id;
        if !gives && user.username == ADMIN && what == ADMIN_GROUP_ID {
            return Err(not_allowed("Can't remove the admin user from the admin group"));
        }
        Ok(Link { relation: Relation::UserGroup, holder: user.id, what })
    }

    async fn group_permission(
        &self,
        actor: &Actor,
        group: &str,
        permission: &str,
        unknown: &'static str,
    ) -> Result<Link, Problem> {
        if !actor.0.governs() {
            return Err(Problem::forbidden());
        }
        let holder = lookup_group(&self.groups, group, UNKNOWN_GROUP).await?.id;
        let what = lookup_permission(&self.permissions, permission, unknown).await?.id;
        if holder == ADMIN_GROUP_ID {
            // It has all permissions, and with another one its members could be locked out.
            return Err(not_allowed("Can't edit admin group"));
        }
        Ok(Link { relation: Relation::GroupPermission, holder, what })
    }
}

fn problem(error: ChangeError, relation: Relation, unknown_permission: &'static str) -> Problem {
    match error {
        ChangeError::Already => Problem::new(
            StatusCode::CONFLICT,
            match relation {
                Relation::UserGroup => "User is already a member of the group",
                Relation::UserPermission => "User already have this permission",
                Relation::GroupPermission => "Group already have this permission",
            },
        ),
        ChangeError::NotSo => Problem::not_found(match relation {
            Relation::UserGroup => "User is not a member of the group",
            Relation::UserPermission => "User does not have this permission",
            Relation::GroupPermission => "Group does not have this permission",
        }),
        other => changed(other, |thing| match thing {
            Thing::User => "Unknown user id",
            Thing::Group => UNKNOWN_GROUP,
            Thing::Permission | Thing::Tenant => unknown_permission,
        }),
    }
}
