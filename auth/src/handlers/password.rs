//! Passwords that users choose (dojot-api.md 2.6).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{FromRef, Path, Query, State},
    http::StatusCode,
};
use common::http::{Problem, server::RequestId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{bearer::Bearer, body::Document, changed, client::ClientAddress, done};
use crate::{
    AppState,
    access::AccessCache,
    admission::Asker,
    config::Config,
    domain::{
        bootstrap::NOBODYS_EMAIL,
        password::{IS_CURRENT, IS_FORMER, Policy},
        secret::link_hash,
        user::Reference,
    },
    mail::Post,
    passwords::{Passwords, Verdict},
    storage::{ChangeError, NewPassword, PasswordRepository, Secrets, UserRepository},
};

/// What it takes to give a user another password.
#[derive(Clone)]
pub(crate) struct Desk {
    repository: PasswordRepository,
    passwords: Passwords,
    policy: Arc<Policy>,
    access: AccessCache,
    config: Arc<Config>,
}

impl FromRef<AppState> for Desk {
    fn from_ref(state: &AppState) -> Self {
        Self {
            repository: FromRef::from_ref(state),
            passwords: FromRef::from_ref(state),
            policy: FromRef::from_ref(state),
            access: FromRef::from_ref(state),
            config: FromRef::from_ref(state),
        }
    }
}

/// Changes the own password. All tokens of the user end, the one that was shown too.
pub(crate) async fn update_password(
    Bearer(user): Bearer,
    State(desk): State<Desk>,
    ClientAddress(address): ClientAddress,
    Extension(request): Extension<RequestId>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let old = secret(&body, "oldpasswd", "Missing user's oldpasswd", "Invalid oldpasswd")?;
    let new = secret(&body, "newpasswd", "Missing user's newpasswd", "Invalid newpasswd")?;
    let secrets = desk.repository.of_user(user).await?;
    let Some(secrets) = secrets else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "AuthenticationError"));
    };
    let asker = asker(address, &secrets);
    let verdict = desk.passwords.turn(asker.clone()).await?.verify(old, secrets.current.clone()).await?;
    if verdict == Verdict::Wrong {
        return Err(Problem::bad_request("Incorrect password").counted());
    }
    desk.replace(asker, &secrets, new, None, &request, || Problem::bad_request("Incorrect password")).await
}

/// Sends a mail with a link that sets a new password.
pub(crate) async fn ask_for_password(
    Path(user): Path<String>,
    State(post): State<Post>,
    State(users): State<UserRepository>,
    State(passwords): State<PasswordRepository>,
    Extension(request): Extension<RequestId>,
) -> Result<Json<Value>, Problem> {
    let not_configured = || Problem::new(StatusCode::NOT_IMPLEMENTED, "Feature not configured");
    if !post.is_there() {
        return Err(not_configured());
    }
    let found = match Reference::parse(&user.to_lowercase()) {
        Some(Reference::Name(name)) => users.by_username(&name).await?,
        _ => None,
    };
    let user = found.ok_or_else(|| Problem::not_found("User not found"))?;
    if user.email.eq_ignore_ascii_case(NOBODYS_EMAIL) {
        // Whoever owns that domain would get the platform.
        return Err(not_configured());
    }
    let request_id = Some(request.as_str().to_owned());
    passwords.ask(user.id, request_id).await.map_err(|error| match error {
        ChangeError::Already => {
            Problem::new(StatusCode::CONFLICT, "You have a password reset request in progress")
        }
        other => changed(other, |_| "User not found"),
    })?;
    post.wake();
    Ok(done("ok"))
}

/// Sets a password with a link, once.
pub(crate) async fn set_password(
    Query(query): Query<HashMap<String, String>>,
    State(desk): State<Desk>,
    ClientAddress(address): ClientAddress,
    Extension(request): Extension<RequestId>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let expired = || Problem::not_found("Page not found or expired");
    let new = secret(&body, "passwd", "missing password", "invalid password")?;
    let link = link_hash(query.get("link").map(String::as_str).unwrap_or_default());
    let secrets = desk.repository.of_link(&link).await?.ok_or_else(expired)?;
    let asker = asker(address, &secrets);
    desk.replace(asker, &secrets, new, Some(&link), &request, expired).await
}

impl Desk {
    /// Replaces a password by one that follows the rules; `moved_on` is the answer when somebody else was faster.
    async fn replace(
        &self,
        asker: Asker,
        secrets: &Secrets,
        new: SecretString,
        link: Option<&str>,
        request: &RequestId,
        moved_on: impl Fn() -> Problem,
    ) -> Result<Json<Value>, Problem> {
        self.policy.check(new.expose_secret(), &secrets.user).map_err(Problem::bad_request)?;
        self.check_new(asker.clone(), secrets, &new).await?;
        let to = self.passwords.hash_for(asker, new).await?;
        let _change = self.access.change(Some(secrets.user.id));
        let replaced = self.repository.replace(NewPassword {
            user: &secrets.user,
            from: secrets.current.as_deref(),
            to: &to,
            link,
            keep: self.config.password_history,
            request_id: Some(request.as_str().to_owned()),
        });
        replaced.await.map_err(|error| match error {
            ChangeError::NotSo => moved_on(),
            other => changed(other, |_| "User not found"),
        })?;
        Ok(done("ok"))
    }

    /// Whether the user never had this password, as far as one remembers.
    async fn check_new(&self, asker: Asker, secrets: &Secrets, new: &SecretString) -> Result<(), Problem> {
        let known: Vec<String> = secrets.current.iter().chain(&secrets.former).cloned().collect();
        let is_current = |index| index == 0 && secrets.current.is_some();
        match self.passwords.turn(asker).await?.find(new.clone(), known).await? {
            None => Ok(()),
            Some(index) if is_current(index) => Err(Problem::bad_request(IS_CURRENT)),
            Some(_) => Err(Problem::bad_request(IS_FORMER)),
        }
    }
}

fn asker(address: IpAddr, secrets: &Secrets) -> Asker {
    Asker { address: Some(address), name: secrets.user.username.clone() }
}

fn secret(body: &Value, key: &str, missing: &str, invalid: &str) -> Result<SecretString, Problem> {
    match body.get(key) {
        None | Some(Value::Null) => Err(Problem::bad_request(missing)),
        Some(Value::String(password)) => Ok(SecretString::from(password.clone())),
        Some(_) => Err(Problem::bad_request(invalid)),
    }
}
