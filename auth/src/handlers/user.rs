//! Users (dojot-api.md 2.2).

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use common::{clock::date_of, http::Problem};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::{actor::Actor, body::Document, changed, done, listed::UserList, tenant::wait_until_free};
use crate::{
    access::AccessCache,
    config::{Config, unless_empty},
    domain::{
        bootstrap::ADMIN,
        secret::readable_password,
        user::{Details, NewUser, Reference, User},
    },
    mail::Post,
    passwords::Passwords,
    storage::{ChangeError, Selection, TenantRepository, Thing, UserRepository},
};

/// A user as clients see it: every value is a text.
#[derive(Debug, Serialize)]
pub(super) struct UserOut {
    id: String,
    name: String,
    username: String,
    service: String,
    email: String,
    profile: String,
    created_date: String,
    created_by: String,
}

impl From<User> for UserOut {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            name: user.name,
            username: user.username,
            service: user.tenant.to_string(),
            email: user.email,
            profile: user.profile,
            created_date: date_of(user.created_ms).format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            created_by: user.created_by.to_string(),
        }
    }
}

/// Lists users, all or those with a text in their user name.
pub(crate) async fn list_users(
    actor: Actor,
    Query(mut filters): Query<HashMap<String, String>>,
    State(users): State<UserRepository>,
) -> Result<UserList, Problem> {
    let nobody = || Problem::not_found("No results found with these filters");
    let username = filters.remove("username").unwrap_or_default();
    if username.contains('\0') {
        return Err(nobody());
    }
    let list = UserList::begin(users, actor.0.scope, Selection::Named(username)).await?;
    if list.is_empty() { Err(nobody()) } else { Ok(list) }
}

/// Shows a user.
pub(crate) async fn get_user(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
) -> Result<Json<Value>, Problem> {
    let user = lookup(&users, &actor, &user).await?;
    Ok(Json(json!({ "user": UserOut::from(user) })))
}

/// Creates a user, who joins the groups of the profile. dojot answers an array.
pub(crate) async fn create_user(
    actor: Actor,
    State(users): State<UserRepository>,
    State(tenants): State<TenantRepository>,
    State(passwords): State<Passwords>,
    State(post): State<Post>,
    State(config): State<Arc<Config>>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let new = NewUser::parse(&body).map_err(Problem::bad_request)?;
    if !actor.0.scope.includes(&new.details.tenant) {
        return Err(Problem::forbidden());
    }
    let in_use = in_use(&new.username, &new.details.email);
    users.check_free(&new.username, &new.details.email).await.map_err(&in_use)?;
    wait_until_free(&tenants, &new.details.tenant).await?;
    let first = if post.is_there() { None } else { Some(first_password(&config)) };
    let hash = match &first {
        Some((password, _)) => Some(passwords.hash(password.clone(), actor.0.tenant.as_str()).await?),
        None => None,
    };
    let (user, joined, not_joined) = users.insert(&actor.0, new, hash).await.map_err(&in_use)?;
    let mut answer = json!({
        "user": UserOut::from(user),
        "groups": joined,
        "could not add": not_joined,
        "message": "user created",
    });
    post.wake();
    if let Some((password, true)) = first {
        // Without a mail server this is the only way to tell it.
        answer["initialPassword"] = password.expose_secret().into();
    }
    Ok(Json(json!([answer, 200])))
}

/// The first password of a user, and whether it was made for him alone.
fn first_password(config: &Config) -> (SecretString, bool) {
    match unless_empty(&config.user_initial_password) {
        Some(fixed) => (fixed, false),
        None => (SecretString::from(readable_password()), true),
    }
}

/// Changes name, e-mail address or tenant of a user.
pub(crate) async fn update_user(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
    State(tenants): State<TenantRepository>,
    State(access): State<AccessCache>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let user = lookup(&users, &actor, &user).await?;
    let same_name = |name: &Value| name.is_null() || name.as_str() == Some(&user.username);
    if !body.get("username").is_none_or(same_name) {
        return Err(Problem::bad_request("usernames can't be updated"));
    }
    let to = Details::parse(&body, &user.username).map_err(Problem::bad_request)?;
    if to.tenant != user.tenant {
        if user.username == ADMIN {
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Can't edit service of admin"));
        }
        if !actor.0.scope.includes(&to.tenant) {
            return Err(Problem::forbidden());
        }
        wait_until_free(&tenants, &to.tenant).await?;
    }
    let _change = access.change(Some(user.id));
    users.update(&actor.0, user.id, &to).await.map_err(problem)?;
    Ok(done("ok"))
}

/// Removes a user with all tokens.
pub(crate) async fn delete_user(
    actor: Actor,
    Path(user): Path<String>,
    State(users): State<UserRepository>,
    State(access): State<AccessCache>,
) -> Result<Json<Value>, Problem> {
    let user = lookup(&users, &actor, &user).await?;
    if user.id == actor.0.user_id {
        return Err(Problem::bad_request("a user can't remove himself"));
    }
    if user.username == ADMIN {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Can't delete the admin user"));
    }
    let _change = access.change(Some(user.id));
    users.delete(&actor.0, user.id).await.map_err(problem)?;
    Ok(done("User removed"))
}

/// The user whom a path names, if the caller may see him.
pub(super) async fn lookup(users: &UserRepository, actor: &Actor, user: &str) -> Result<User, Problem> {
    let found = match Reference::parse(user) {
        Some(who) => users.find(&actor.0.scope, &who).await?,
        None => None,
    };
    found.ok_or_else(|| problem(ChangeError::Unknown(Thing::User)))
}

/// Says which of the two is in use, as `POST /user` does.
fn in_use(username: &str, email: &str) -> impl Fn(ChangeError) -> Problem + use<> {
    let username = format!("Username {username} is in use.");
    let email = format!("E-mail {email} is in use.");
    move |error| match error {
        ChangeError::UsernameTaken => Problem::bad_request(username.clone()),
        ChangeError::EmailTaken => Problem::bad_request(email.clone()),
        other => problem(other),
    }
}

fn problem(error: ChangeError) -> Problem {
    match error {
        ChangeError::EmailTaken => Problem::bad_request("email already in use"),
        other => changed(other, |_| "Unknown user id"),
    }
}
