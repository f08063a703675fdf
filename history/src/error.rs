//! What can be wrong with a question (dojot-api.md 5.2).

use axum::http::StatusCode;
use common::http::Problem;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody knows the device.
    #[error("No data for the given device could be found")]
    DeviceNotFound,
    /// The attribute has no samples in the window.
    #[error("No data for the given attribute could be found")]
    AttrNotFound,
    /// A parameter is not what it should be.
    #[error("The \"{name}\" parameter is invalid. {rule}")]
    InvalidParameter {
        /// Its name.
        name: &'static str,
        /// What it should be.
        rule: &'static str,
    },
    /// Neither JSON nor CSV is accepted.
    #[error("The answer can be application/json or text/csv.")]
    NotAcceptable,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, title) = match &error {
            Error::DeviceNotFound => (StatusCode::NOT_FOUND, "Device not found"),
            Error::AttrNotFound => (StatusCode::NOT_FOUND, "Attr not found"),
            Error::InvalidParameter { .. } => (StatusCode::BAD_REQUEST, "Invalid parameter"),
            Error::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "Not acceptable"),
        };
        Self::titled(status, title, error.to_string())
    }
}
