//! `/graphql/permissions`: what the members of groups may see and change, as dashboards call it.
//!
//! It is the way of `/auth/pap` in other words: everything is permitted, refused, recorded and announced as if it had come there.

use std::collections::HashSet;

use async_graphql::{Context, EmptySubscription, InputObject, Object, Result, Schema, SimpleObject};
use axum::{
    extract::{FromRef, State},
    response::{IntoResponse, Response},
};
use common::http::Problem;

use super::{Asked, error, execute, schema};
use crate::{
    AppState,
    access::AccessCache,
    domain::{
        ability::{self, Change},
        bootstrap::{ADMIN_GROUP, ADMIN_GROUP_ID},
        decide::Effect,
        permission::{Permission, PermissionFilter, SYSTEM},
        user::Reference,
    },
    handlers::{actor::Actor, group::lookup as lookup_group, permission::UNKNOWN_OR_NAME, relation, report},
    storage::{GroupRepository, PermissionRepository, Relation},
};

/// What can be asked here.
pub(crate) type PermissionSchema = Schema<PermissionsRootQuery, PermissionsMutation, EmptySubscription>;

/// The schema of this path.
pub(crate) fn permission_schema() -> PermissionSchema {
    schema(PermissionsRootQuery, PermissionsMutation, MOST).finish()
}

/// As much as one request may cost: the introspection, or ten lists, or one change.
const MOST: usize = 500;

/// Answers a request.
pub(crate) async fn answer(
    actor: Actor,
    State(schema): State<PermissionSchema>,
    State(editor): State<Editor>,
    asked: Asked,
) -> Response {
    execute(&schema, asked.into_request().data(actor).data(editor)).await.into_response()
}

/// Permissions of the platform and of groups.
#[derive(Clone)]
pub(crate) struct Directory {
    groups: GroupRepository,
    permissions: PermissionRepository,
}

impl FromRef<AppState> for Directory {
    fn from_ref(state: &AppState) -> Self {
        Self { groups: FromRef::from_ref(state), permissions: FromRef::from_ref(state) }
    }
}

impl Directory {
    /// What a user with this profile may, as far as it names a group. Administrators may everything.
    pub(super) async fn of_profile(&self, profile: &str) -> Result<Vec<PermissionResponse>, Problem> {
        if profile == ADMIN_GROUP {
            return Ok(listed(&self.of_the_platform().await?));
        }
        let Some(what) = Reference::parse(profile) else { return Ok(Vec::new()) };
        match self.groups.find(&what).await? {
            Some(group) => Ok(listed(&self.permissions.of_group(group.id).await?)),
            None => Ok(Vec::new()),
        }
    }

    async fn of_the_platform(&self) -> Result<Vec<Permission>, Problem> {
        let filter = PermissionFilter { kind: SYSTEM.to_owned(), ..PermissionFilter::default() };
        Ok(self.permissions.list(&filter).await?)
    }
}

/// What it takes to read and change permissions of groups.
#[derive(Clone)]
pub(crate) struct Editor {
    directory: Directory,
    relations: relation::Desk,
    access: AccessCache,
}

impl FromRef<AppState> for Editor {
    fn from_ref(state: &AppState) -> Self {
        Self {
            directory: FromRef::from_ref(state),
            relations: FromRef::from_ref(state),
            access: FromRef::from_ref(state),
        }
    }
}

impl Editor {
    /// Whether a caller may send a request to this path of the gateway. The permission for this one says nothing about it.
    async fn permit(&self, actor: &Actor, action: &str, resource: &str) -> Result<(), Problem> {
        let access = self.access.of(actor.0.user_id, true).await?;
        let is_permitted =
            access.is_some_and(|access| access.rules.decide(action, resource) == Effect::Permit);
        if is_permitted { Ok(()) } else { Err(Problem::forbidden()) }
    }

    async fn of_the_platform(&self, actor: &Actor) -> Result<Vec<Permission>, Problem> {
        self.permit(actor, "GET", "/auth/pap/permission/").await?;
        self.directory.of_the_platform().await
    }

    /// Identifier and permissions of a group.
    async fn of_group(&self, actor: &Actor, group: &str) -> Result<(i64, Vec<Permission>), Problem> {
        self.permit(actor, "GET", &format!("/auth/pap/group/{group}/permissions/")).await?;
        let group = lookup_group(&self.directory.groups, group, report::UNKNOWN_GROUP).await?.id;
        Ok((group, self.directory.permissions.of_group(group).await?))
    }

    async fn list(&self, actor: &Actor, group: &str) -> Result<Vec<PermissionResponse>, Problem> {
        if !group.is_empty() && group != ADMIN_GROUP {
            let (id, found) = self.of_group(actor, group).await?;
            if id != ADMIN_GROUP_ID {
                return Ok(listed(&found));
            }
        }
        Ok(listed(&self.of_the_platform(actor).await?))
    }

    /// Gives a group what is wanted and takes from it what is not. Each change stands for itself, and the answer has all of them.
    async fn save(
        &self,
        actor: &Actor,
        group: &str,
        wanted: &[(String, String)],
    ) -> Result<Vec<ChangeResponse>, Problem> {
        let system = self.of_the_platform(actor).await?;
        let (_, held) = self.of_group(actor, group).await?;
        let (mut known, mut answers) = (HashSet::new(), Vec::new());
        for (subject, action) in wanted {
            match ability::named(subject, action) {
                Some(ability) => {
                    known.insert(ability);
                }
                None => answers.push(ChangeResponse::new(
                    subject,
                    action,
                    Err(Problem::not_found(UNKNOWN_OR_NAME)),
                )),
            }
        }
        for change in ability::changes(&system, &held, &known) {
            let made = self.change(actor, group, change).await;
            answers.push(ChangeResponse::new(change.ability.subject, change.ability.action, made));
        }
        Ok(answers)
    }

    async fn change(&self, actor: &Actor, group: &str, change: Change) -> Result<(), Problem> {
        let Change { permission, gives, .. } = change;
        let resource = format!("/auth/pap/grouppermissions/{group}/{permission}/");
        self.permit(actor, if gives { "POST" } else { "DELETE" }, &resource).await?;
        self.relations.change(actor, Relation::GroupPermission, gives, group, &permission.to_string()).await
    }
}

fn listed(permissions: &[Permission]) -> Vec<PermissionResponse> {
    let subjects = ability::by_subject(permissions).into_iter();
    subjects.map(|(subject, actions)| PermissionResponse { subject, actions }).collect()
}

/// What may be done with something.
#[derive(SimpleObject)]
pub(crate) struct PermissionResponse {
    subject: &'static str,
    /// `viewer`, `modifier`.
    actions: Vec<&'static str>,
}

/// What members of a group shall be able to do with something.
#[derive(InputObject)]
pub(crate) struct PermissionRequest {
    subject: Option<String>,
    /// `viewer`, `modifier`.
    actions: Option<Vec<Option<String>>>,
}

/// What came of a change.
#[derive(SimpleObject)]
#[graphql(name = "Response")]
pub(crate) struct ChangeResponse {
    message: String,
    /// As an HTTP status.
    status: u16,
    subject: String,
    action: String,
}

impl ChangeResponse {
    fn new(subject: &str, action: &str, made: Result<(), Problem>) -> Self {
        let (message, status) = match made {
            Ok(()) => ("ok".to_owned(), 200),
            Err(problem) => (problem.message(), problem.status().as_u16()),
        };
        Self { message, status, subject: subject.to_owned(), action: action.to_owned() }
    }
}

pub(crate) struct PermissionsRootQuery;

/// Reading permissions.
#[Object]
impl PermissionsRootQuery {
    /// Permissions of a group; without one, and of administrators, those of the platform.
    #[graphql(complexity = "40 + child_complexity")]
    async fn permissions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Name or id of group")] group: Option<String>,
    ) -> Option<Result<Vec<PermissionResponse>>> {
        let (editor, actor): (&Editor, &Actor) = (ctx.data().ok()?, ctx.data().ok()?);
        let found = editor.list(actor, &group.unwrap_or_default()).await;
        Some(found.map_err(|problem| error(&problem)))
    }
}

pub(crate) struct PermissionsMutation;

/// Changing permissions.
#[Object]
impl PermissionsMutation {
    /// Sets the permissions of a group. Those that dashboards do not know stay.
    #[graphql(complexity = "400 + child_complexity")]
    async fn permissions(
        &self,
        ctx: &Context<'_>,
        permissions: Option<Vec<Option<PermissionRequest>>>,
        #[graphql(desc = "Name or id of group")] group: Option<String>,
    ) -> Option<Result<Vec<ChangeResponse>>> {
        let (editor, actor): (&Editor, &Actor) = (ctx.data().ok()?, ctx.data().ok()?);
        let saved = editor.save(actor, &group.unwrap_or_default(), &pairs(permissions)).await;
        Some(saved.map_err(|problem| error(&problem)))
    }
}

/// Subjects and actions, without what is null.
fn pairs(permissions: Option<Vec<Option<PermissionRequest>>>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for PermissionRequest { subject, actions } in permissions.into_iter().flatten().flatten() {
        let Some(subject) = subject else { continue };
        let actions = actions.into_iter().flatten().flatten();
        pairs.extend(actions.map(|action| (subject.clone(), action)));
    }
    pairs
}
