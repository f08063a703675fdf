//! `/graphql-auth`: logging in, and what the user may see and change.

use std::net::IpAddr;

use async_graphql::{ComplexObject, Context, EmptySubscription, Object, Result, Schema, SimpleObject};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use common::http::{
    Problem,
    problem::{FAILURE, FAILURE_HEADER},
};
use serde_json::json;

use super::{
    Asked, Refused, error, execute,
    permissions::{Directory, PermissionResponse},
    schema,
};
use crate::handlers::{
    client::ClientAddress,
    login::{Authenticator, read},
};

/// What can be asked here.
pub(crate) type LoginSchema = Schema<LoginRootQuery, LoginMutation, EmptySubscription>;

impl super::Asked {
    /// Whose login it is; an error when it cannot be said for sure, because then nobody could count it.
    fn username(&self) -> std::result::Result<Option<String>, Problem> {
        match self.0.login() {
            None if self.0.asks_for_login() => Err(Problem::bad_request(
                "There must be one login, with its username as a text or a variable.",
            )),
            username => Ok(username),
        }
    }
}

/// The schema of this path. Everybody may ask, so it does not explain itself.
pub(crate) fn login_schema() -> LoginSchema {
    schema(LoginRootQuery, LoginMutation, 50).disable_introspection().disable_suggestions().finish()
}

/// The user name whose failed logins the gateway counts.
struct Username(Option<String>);

/// Where the request comes from.
struct Address(IpAddr);

/// Answers a request.
pub(crate) async fn answer(
    State(schema): State<LoginSchema>,
    State(authenticator): State<Authenticator>,
    State(directory): State<Directory>,
    ClientAddress(address): ClientAddress,
    asked: Asked,
) -> Response {
    let username = match asked.username() {
        Ok(username) => username,
        Err(problem) => return Refused::from(problem).into_response(),
    };
    let request = asked.into_request();
    let request = request.data(Username(username)).data(Address(address)).data(authenticator).data(directory);
    execute(&schema, request).await.into_response()
}

pub(crate) struct LoginRootQuery;

/// Nothing, but GraphQL wants it.
#[Object]
impl LoginRootQuery {
    /// Nothing.
    async fn none(&self) -> Option<String> {
        None
    }
}

pub(crate) struct LoginMutation;

/// Logging in.
#[Object]
impl LoginMutation {
    /// Logs in. Null when that fails.
    #[graphql(complexity = "30 + child_complexity")]
    async fn login(
        &self,
        ctx: &Context<'_>,
        username: Option<String>,
        passwd: Option<String>,
    ) -> Option<Result<Login>> {
        let authenticator: &Authenticator = ctx.data().ok()?;
        let (Username(counted), Address(address)) = (ctx.data().ok()?, ctx.data().ok()?);
        let outcome = match read(&json!({ "username": username, "passwd": passwd })) {
            Ok((username, password)) if counted.as_ref() == Some(&username) => {
                authenticator.log_in(*address, username, password).await
            }
            // It would be a way round the budget.
            Ok(_) => Err(Problem::internal("a login is not the one that the gateway counts")),
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok((jwt, claims)) => {
                let user = User {
                    username: claims.username,
                    id: claims.userid.to_string(),
                    profile: claims.profile,
                    service: claims.service,
                };
                Some(Ok(Login { jwt, user }))
            }
            Err(problem) => match problem.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    ctx.insert_http_header(FAILURE_HEADER, FAILURE);
                    None
                }
                StatusCode::BAD_REQUEST => None,
                // It says nothing about the password.
                _ => Some(Err(error(&problem))),
            },
        }
    }
}

/// Somebody who has logged in.
#[derive(SimpleObject)]
pub(crate) struct Login {
    /// The token.
    jwt: String,
    user: User,
}

/// A user, and what dashboards show to him.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct User {
    username: String,
    id: String,
    profile: String,
    /// The tenant.
    service: String,
}

#[ComplexObject]
impl User {
    /// What members of the group that the profile names may see and change.
    async fn permissions(&self, ctx: &Context<'_>) -> Option<Result<Vec<PermissionResponse>>> {
        let directory: &Directory = ctx.data().ok()?;
        Some(directory.of_profile(&self.profile).await.map_err(|problem| error(&problem)))
    }
}
