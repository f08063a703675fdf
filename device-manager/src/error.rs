//! Everything that can go wrong with a request, and how it is answered.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use common::{engine::sql::SqlError, http::Problem};
use serde_json::json;

use crate::domain::Invalid;

/// Why a request is not done.
#[derive(Debug)]
pub(crate) enum Error {
    NoSuchDevice(String),
    NoSuchTemplate(String),
    NotAssociated {
        device: String,
        template: String,
    },
    TemplateConflict {
        template: i64,
        device: String,
    },
    AttrConflict {
        label: String,
        id: i64,
    },
    TemplatesInUse,
    DeviceIdTaken,
    NoFreeDeviceId,
    NotConfigurable(Vec<String>),
    EventTooLarge,
    TooManyDevices(i64),
    NotAnId,
    Invalid(Invalid),
    /// Basic credentials were asked for a device that is not there.
    InvalidDevice,
    /// User name or password of a device is wrong; never says which.
    InvalidCredential,
    Storage(SqlError),
    /// Too many lists are being read.
    Busy,
    Problem(Problem),
}

impl Error {
    pub(crate) fn internal(what: impl std::fmt::Display) -> Self {
        Self::Problem(Problem::internal(what))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSuchDevice(id) => Self::not_found(format!("No such device: {id}")),
            Error::NoSuchTemplate(id) => Self::not_found(format!("No such template: {id}")),
            Error::NotAssociated { device, template } => {
                Self::not_found(format!("Device {device} is not associated with template {template}"))
            }
            Error::TemplateConflict { template, device } => Self::bad_request(format!(
                "Template ({template}) cannot be added to device ({device}) as it has standing attribute conflicts"
            )),
            Error::AttrConflict { label, id } => {
                Self::bad_request(format!("Attribute {label} ({id}) has standing conflicts"))
            }
            Error::TemplatesInUse => {
                Self::bad_request("Templates cannot be removed as they are being used by devices")
            }
            Error::DeviceIdTaken => {
                Self::bad_request("duplicate key value violates unique constraint \"devices_pkey\"")
            }
            Error::NoFreeDeviceId => Self::bad_request("Failed to generate unique device_id"),
            Error::NotConfigurable(attrs) => Self::with_body(
                StatusCode::FORBIDDEN,
                json!({ "attrs": attrs, "status": "some of the attributes are not configurable" }),
            ),
            Error::EventTooLarge => Self::bad_request("the device or its configuration is too large"),
            Error::TooManyDevices(max) => {
                Self::bad_request(format!("one request may create or remove at most {max} devices"))
            }
            Error::NotAnId => Self::bad_request("a template id must be an integer"),
            Error::Invalid(Invalid::Schema { message, errors }) => {
                Self::with_body(StatusCode::BAD_REQUEST, json!({ "errors": errors, "message": message }))
            }
            Error::Invalid(Invalid::Message(message)) => Self::bad_request(message),
            Error::InvalidDevice => {
                Self::with_body(StatusCode::BAD_REQUEST, json!({ "error": "Device is not valid." }))
            }
            Error::InvalidCredential => {
                Self::with_body(StatusCode::UNAUTHORIZED, json!({ "message": "The credential is invalid." }))
            }
            Error::Storage(error) => error.into(),
            Error::Busy => Self::unavailable("too many lists are being read").retry_after(1),
            Error::Problem(problem) => problem,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::Storage(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}
