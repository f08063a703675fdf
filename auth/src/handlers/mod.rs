//! Handlers, one file per resource.

mod actor;
mod bearer;
mod body;
mod client;
pub(crate) mod graphql;
pub(crate) mod group;
pub(crate) mod jwks;
mod listed;
pub(crate) mod login;
pub(crate) mod password;
pub(crate) mod pdp;
pub(crate) mod permission;
pub(crate) mod relation;
pub(crate) mod report;
pub(crate) mod tenant;
pub(crate) mod user;

use axum::http::StatusCode;
use common::{clock::date_of, http::Problem};
use serde_json::{Value, json};

use crate::{
    domain::token::TokenError,
    storage::{ChangeError, Thing},
};

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error.to_string())
    }
}

/// dojot's answer to what needs no other (dojot-api.md 2).
fn done(message: &str) -> axum::Json<Value> {
    axum::Json(json!({ "message": message, "status": 200 }))
}

/// Why a change was not made; `unknown` says in the words of the endpoint what is not there.
fn changed(error: ChangeError, unknown: impl FnOnce(Thing) -> &'static str) -> Problem {
    match error {
        ChangeError::Unknown(thing) => Problem::not_found(unknown(thing)),
        ChangeError::EmailTaken | ChangeError::UsernameTaken | ChangeError::NameTaken => {
            Problem::bad_request(format!("{error}"))
        }
        ChangeError::MandateEnded => Problem::new(StatusCode::UNAUTHORIZED, "AuthenticationError"),
        ChangeError::Forbidden => Problem::forbidden(),
        ChangeError::TenantIsBeingRemoved => Problem::unavailable("the former tenant is still being removed"),
        ChangeError::LocksAdminOut => not_allowed("Can't lock the admin user out"),
        ChangeError::Already | ChangeError::NotSo => Problem::new(StatusCode::CONFLICT, format!("{error}")),
        ChangeError::TooMany => Problem::bad_request("Too many of them"),
        ChangeError::Storage(error) => error.into(),
    }
}

/// What the platform cannot do without stays as it is.
fn not_allowed(message: &str) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// When a group or permission was created, as dojot writes it.
fn iso_date(ms: i64) -> String {
    date_of(ms).format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}
