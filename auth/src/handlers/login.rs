//! Login.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use common::{clock::Clock, engine::sql::SqlError, http::Problem, wire::Claims};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{body::Document, client::ClientAddress};
use crate::{
    admission::Asker,
    config::Config,
    keys::KeyRing,
    passwords::{Passwords, Verdict},
    storage::{Credentials, UserRepository},
};

/// Gives a token for a user name and a password (dojot-api.md 2.1).
pub(crate) async fn log_in(
    State(users): State<UserRepository>,
    State(passwords): State<Passwords>,
    State(keys): State<KeyRing>,
    State(clock): State<Clock>,
    State(config): State<Arc<Config>>,
    ClientAddress(address): ClientAddress,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let (username, password) = read(&body)?;
    let asker = Asker { address: Some(address), name: username.clone() };
    // Here is the place for refusing an asker who has failed too often: nothing has cost anything yet.
    let turn = passwords.turn(asker).await?;
    let found = users.credentials(&username).await.map_err(database_down)?;
    if found.as_ref().is_some_and(|user| user.password_hash.is_none()) {
        return Err(refuse(StatusCode::UNAUTHORIZED, "This user is inactive"));
    }
    // An unknown user costs the same time as a wrong password.
    let hash = found.as_ref().and_then(|user| user.password_hash.clone());
    let verdict = turn.verify(password, hash.clone()).await?;
    let Some(user) = found else { return Err(refuse(StatusCode::UNAUTHORIZED, "AuthenticationError")) };
    match (verdict, hash) {
        (Verdict::Wrong, _) => return Err(refuse(StatusCode::FORBIDDEN, "AuthorizationError")),
        (Verdict::Outdated(better), Some(hash)) => {
            if let Err(error) = users.improve_hash(user.id, &hash, &better).await {
                tracing::warn!(%error, "a password keeps its old hash until the next login");
            }
        }
        _ => {}
    }
    let groups = users.groups_of(user.id).await.map_err(database_down)?;
    let token = keys.sign(&claims(user, groups, clock.now_s(), config.token_lifetime_s))?;
    count("permitted");
    Ok(Json(json!({ "jwt": token })))
}

fn read(body: &Value) -> Result<(String, SecretString), Problem> {
    let username = match body.get("username") {
        None | Some(Value::Null) => return Err(Problem::bad_request("missing username")),
        // No user name has a NUL, and PostgreSQL does not take it.
        Some(Value::String(username)) if !username.contains('\0') => username.to_lowercase(),
        Some(_) => return Err(Problem::bad_request("invalid username")),
    };
    let password = match body.get("passwd") {
        None | Some(Value::Null) => return Err(Problem::bad_request("missing password")),
        Some(Value::String(password)) => SecretString::from(password.clone()),
        Some(_) => return Err(Problem::bad_request("invalid password")),
    };
    Ok((username, password))
}

fn claims(user: Credentials, groups: Vec<i64>, now_s: i64, lifetime_s: i64) -> Claims {
    Claims {
        iss: user.credential_key,
        iat: now_s,
        exp: now_s + lifetime_s,
        profile: user.profile,
        groups,
        userid: user.id,
        jti: Uuid::new_v4().simple().to_string(),
        service: user.tenant.to_string(),
        username: user.username,
    }
}

fn refuse(status: StatusCode, message: &str) -> Problem {
    count("refused");
    Problem::new(status, message)
}

fn database_down(error: SqlError) -> Problem {
    match error {
        SqlError::Unavailable(reason) => {
            tracing::warn!(reason, "a login was refused because the database is away");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Problem connecting to database")
        }
        other => other.into(),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("auth_logins_total", "outcome" => outcome).increment(1);
}
