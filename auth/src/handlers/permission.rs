//! Permissions (dojot-api.md 2.3).

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use common::http::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use super::{actor::Actor, body::Document, changed, done, iso_date, not_allowed};
use crate::{
    access::AccessCache,
    domain::{
        permission::{NewPermission, Permission, PermissionFilter, SYSTEM, Terms},
        user::Reference,
    },
    storage::{ChangeError, PermissionRepository},
};

/// What dojot says when there is no such permission, depending on where it was asked for.
pub(super) const UNKNOWN: &str = "No permission found with this ID";
/// The same, where names are mentioned.
pub(super) const UNKNOWN_OR_NAME: &str = "No permission found with this ID or name";

/// A permission as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct PermissionOut {
    id: i64,
    path: String,
    name: String,
    method: String,
    permission: String,
    #[serde(rename = "type")]
    kind: String,
    created_date: String,
    created_by: i64,
}

impl From<Permission> for PermissionOut {
    fn from(permission: Permission) -> Self {
        let Permission { id, name, terms: Terms { path, method, effect, kind }, created_ms, created_by } =
            permission;
        Self {
            id,
            path,
            name,
            method,
            permission: effect,
            kind,
            created_date: iso_date(created_ms),
            created_by,
        }
    }
}

/// Lists permissions, all or those that the filters let through.
pub(crate) async fn list_permissions(
    _: Actor,
    Query(query): Query<HashMap<String, String>>,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<Value>, Problem> {
    let filter = PermissionFilter::parse(|key| query.get(key).cloned().unwrap_or_default());
    let filter = filter.map_err(Problem::bad_request)?;
    let is_askable = !filter.path.contains('\0') && !filter.method.contains('\0');
    let found = if is_askable { permissions.list(&filter).await? } else { Vec::new() };
    if found.is_empty() {
        return Err(Problem::not_found("No results found with these filters"));
    }
    Ok(Json(json!({ "permissions": listed(found) })))
}

/// Permissions as lists show them.
pub(super) fn listed(permissions: Vec<Permission>) -> Vec<PermissionOut> {
    permissions.into_iter().map(PermissionOut::from).collect()
}

/// Shows a permission.
pub(crate) async fn get_permission(
    _: Actor,
    Path(permission): Path<String>,
    State(permissions): State<PermissionRepository>,
) -> Result<Json<PermissionOut>, Problem> {
    Ok(Json(lookup(&permissions, &permission, UNKNOWN).await?.into()))
}

/// Creates a permission.
pub(crate) async fn create_permission(
    Actor(mandate): Actor,
    State(permissions): State<PermissionRepository>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let new = NewPermission::parse(&body).map_err(Problem::bad_request)?;
    let id = permissions.insert(&mandate, &new).await.map_err(|error| match error {
        ChangeError::NameTaken => {
            Problem::new(StatusCode::CONFLICT, format!("Permission name {} is in use.", new.name))
        }
        other => changed(other, |_| UNKNOWN),
    })?;
    Ok(Json(json!({ "status": 200, "id": id })))
}

/// Changes what a permission says, for all who have it.
pub(crate) async fn update_permission(
    Actor(mandate): Actor,
    Path(permission): Path<String>,
    State(permissions): State<PermissionRepository>,
    State(access): State<AccessCache>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let stored = lookup(&permissions, &permission, UNKNOWN).await?;
    if stored.terms.kind == SYSTEM {
        return Err(not_allowed("Can't edit a system permission "));
    }
    let to = Terms::parse(&body, &stored).map_err(Problem::bad_request)?;
    let _change = access.change(None);
    permissions.update(&mandate, stored.id, &to).await.map_err(|error| changed(error, |_| UNKNOWN))?;
    Ok(done("ok"))
}

/// Removes a permission, from all who have it.
pub(crate) async fn delete_permission(
    Actor(mandate): Actor,
    Path(permission): Path<String>,
    State(permissions): State<PermissionRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    if !mandate.governs() {
        return Err(Problem::forbidden());
    }
    let stored = lookup(&permissions, &permission, UNKNOWN_OR_NAME).await?;
    if stored.terms.kind == SYSTEM {
        return Err(not_allowed("Can't delete a system permission"));
    }
    let _change = access.change(None);
    permissions.delete(&mandate, stored.id).await.map_err(|error| changed(error, |_| UNKNOWN_OR_NAME))?;
    Ok(done("ok"))
}

/// The permission that a path names; `unknown` is what the endpoint says when there is none.
pub(super) async fn lookup(
    permissions: &PermissionRepository,
    permission: &str,
    unknown: &'static str,
) -> Result<Permission, Problem> {
    let found = match Reference::parse(permission) {
        Some(what) => permissions.find(&what).await?,
        None => None,
    };
    found.ok_or_else(|| Problem::not_found(unknown))
}
