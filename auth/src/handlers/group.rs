//! Groups (dojot-api.md 2.4).

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use common::http::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use super::{actor::Actor, body::Document, changed, done, iso_date, not_allowed};
use crate::{
    access::AccessCache,
    domain::{
        bootstrap::ADMIN_GROUP_ID,
        group::{Group, Labels},
        user::Reference,
    },
    storage::{ChangeError, GroupRepository},
};

const UNKNOWN: &str = "No group found with this ID";

/// A group as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct GroupOut {
    id: i64,
    name: String,
    description: Option<String>,
    created_date: String,
    created_by: i64,
}

impl From<Group> for GroupOut {
    fn from(group: Group) -> Self {
        let Group { id, labels: Labels { name, description }, created_ms, created_by } = group;
        Self { id, name, description, created_date: iso_date(created_ms), created_by }
    }
}

/// Lists groups, all or those with a text in their name.
pub(crate) async fn list_groups(
    _: Actor,
    Query(query): Query<HashMap<String, String>>,
    State(groups): State<GroupRepository>,
) -> Result<Json<Value>, Problem> {
    let name = query.get("name").map(String::as_str).unwrap_or_default();
    let found = if name.contains('\0') { Vec::new() } else { groups.list(name).await? };
    if found.is_empty() {
        return Err(Problem::not_found("No results found with these filters"));
    }
    Ok(Json(json!({ "groups": listed(found) })))
}

/// Groups as lists show them.
pub(super) fn listed(groups: Vec<Group>) -> Vec<GroupOut> {
    groups.into_iter().map(GroupOut::from).collect()
}

/// Shows a group.
pub(crate) async fn get_group(
    _: Actor,
    Path(group): Path<String>,
    State(groups): State<GroupRepository>,
) -> Result<Json<GroupOut>, Problem> {
    Ok(Json(lookup(&groups, &group, UNKNOWN).await?.into()))
}

/// Creates a group.
pub(crate) async fn create_group(
    Actor(mandate): Actor,
    State(groups): State<GroupRepository>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let labels = Labels::parse(&body).map_err(Problem::bad_request)?;
    let id = groups.insert(&mandate, &labels).await.map_err(|error| problem(error, &labels))?;
    Ok(Json(json!({ "status": 200, "id": id })))
}

/// Changes name or description of a group.
pub(crate) async fn update_group(
    Actor(mandate): Actor,
    Path(group): Path<String>,
    State(groups): State<GroupRepository>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let stored = lookup(&groups, &group, UNKNOWN).await?;
    if stored.id == ADMIN_GROUP_ID {
        return Err(not_allowed("Can't edit admin group"));
    }
    let labels = Labels::change(&body, &stored.labels).map_err(Problem::bad_request)?;
    groups.update(&mandate, stored.id, &labels).await.map_err(|error| problem(error, &labels))?;
    Ok(done("ok"))
}

/// Removes a group. Tokens of its members end.
pub(crate) async fn delete_group(
    Actor(mandate): Actor,
    Path(group): Path<String>,
    State(groups): State<GroupRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let stored = lookup(&groups, &group, UNKNOWN).await?;
    if stored.id == ADMIN_GROUP_ID {
        return Err(not_allowed("Can't delete admin group"));
    }
    let _change = access.change(None);
    groups.delete(&mandate, stored.id).await.map_err(|error| problem(error, &stored.labels))?;
    Ok(done("ok"))
}

/// The group that a path names; `unknown` is what the endpoint says when there is none.
pub(super) async fn lookup(
    groups: &GroupRepository,
    group: &str,
    unknown: &'static str,
) -> Result<Group, Problem> {
    let found = match Reference::parse(group) {
        Some(what) => groups.find(&what).await?,
        None => None,
    };
    found.ok_or_else(|| Problem::not_found(unknown))
}

fn problem(error: ChangeError, labels: &Labels) -> Problem {
    match error {
        ChangeError::NameTaken => Problem::bad_request(format!("Group name {} is in use.", labels.name)),
        other => changed(other, |_| UNKNOWN),
    }
}
