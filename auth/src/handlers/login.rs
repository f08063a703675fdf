//! Login.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode, header},
};
use common::{clock::Clock, engine::sql::SqlError, http::Problem, wire::Claims};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{body::Document, client::ClientAddress, pdp};
use crate::{
    AppState,
    access::AccessCache,
    admission::Asker,
    config::Config,
    domain::token::TokenError,
    keys::KeyRing,
    passwords::{Passwords, Verdict},
    storage::{Credentials, UserRepository},
};

/// What it takes to log in.
#[derive(Clone)]
pub(crate) struct Authenticator {
    users: UserRepository,
    passwords: Passwords,
    keys: KeyRing,
    clock: Clock,
    config: Arc<Config>,
}

impl FromRef<AppState> for Authenticator {
    fn from_ref(state: &AppState) -> Self {
        Self {
            users: FromRef::from_ref(state),
            passwords: FromRef::from_ref(state),
            keys: FromRef::from_ref(state),
            clock: FromRef::from_ref(state),
            config: FromRef::from_ref(state),
        }
    }
}

/// Gives a token for a user name and a password (dojot-api.md 2.1).
pub(crate) async fn log_in(
    State(authenticator): State<Authenticator>,
    ClientAddress(address): ClientAddress,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let (username, password) = read(&body)?;
    let (token, _) = authenticator.log_in(address, username, password).await?;
    Ok(Json(json!({ "jwt": token })))
}

impl Authenticator {
    /// A token and what it claims, for a user name in lower case and a password.
    pub(super) async fn log_in(
        &self,
        address: IpAddr,
        username: String,
        password: SecretString,
    ) -> Result<(String, Claims), Problem> {
        let users = &self.users;
        let asker = Asker { address: Some(address), name: username.clone() };
        // Here is the place for refusing an asker who has failed too often: nothing has cost anything yet.
        let turn = self.passwords.turn(asker).await?;
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
        let claims = claims(user, groups, self.clock.now_s(), self.config.token_lifetime_s);
        let token = self.keys.sign(&claims)?;
        count("permitted");
        Ok((token, claims))
    }
}

/// Gives a new token for one that is still good, until the session that began with the login is over.
pub(crate) async fn refresh(
    State(users): State<UserRepository>,
    State(access): State<AccessCache>,
    State(keys): State<KeyRing>,
    State(clock): State<Clock>,
    State(config): State<Arc<Config>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let token = bearer(&headers).ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
    let (old, holder) = pdp::holder(&keys, &access, &clock, token, true).await?;
    let began_s = old.auth_time.unwrap_or(old.iat);
    let (now_s, ends_s) = (clock.now_s(), began_s.saturating_add(config.session_lifetime_s));
    if now_s >= ends_s {
        return Err(refuse(StatusCode::UNAUTHORIZED, "session expired"));
    }
    let user = users.credentials(&holder.username).await.map_err(database_down)?;
    // Who lost the tokens since they were looked at has another key by now.
    let user = user.filter(|user| user.id == old.userid && user.credential_key == old.iss);
    let user = user.ok_or(TokenError::UnknownIssuer)?;
    let groups = users.groups_of(user.id).await.map_err(database_down)?;
    let mut new = claims(user, groups, now_s, config.token_lifetime_s);
    new.exp = new.exp.min(ends_s);
    new.auth_time = Some(began_s);
    count("refreshed");
    Ok(Json(json!({ "jwt": keys.sign(&new)? })))
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// User name, in lower case, and password of a login.
pub(super) fn read(body: &Value) -> Result<(String, SecretString), Problem> {
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
        auth_time: None,
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
            // dojot answers 500, which would be our own fault.
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Problem connecting to database")
        }
        other => other.into(),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("auth_logins_total", "outcome" => outcome).increment(1);
}
