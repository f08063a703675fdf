//! Why the gateway does not forward a request, and what it says then (dojot-api.md 1.2, 1.5).

use std::{borrow::Cow, sync::Arc};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use common::http::{Caller, Problem, Shape, server::RequestId};

use crate::{
    domain::{bearer::NoToken, budget::Quota, framing::BadFraming, path::Ambiguity},
    upload::UploadError,
};

/// A refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Path(#[from] Ambiguity),
    #[error(transparent)]
    Framing(#[from] BadFraming),
    #[error("Method Not Allowed")]
    Method,
    #[error("no Route matched with those values")]
    NoRoute,
    #[error("{1}")]
    Fixed(StatusCode, String),
    #[error("{0}")]
    Token(Cow<'static, str>),
    /// The PDP does not permit it to this caller.
    #[error("Forbidden")]
    Forbidden(Arc<Caller>),
    #[error("API rate limit exceeded")]
    RateLimited(Quota),
    #[error("the policy decision point is away")]
    NoDecision,
    #[error(transparent)]
    Body(#[from] UploadError),
    #[error("too many websockets")]
    TooManyWebsockets,
    #[error("name resolution failed")]
    Name,
    #[error("An invalid response was received from the upstream server")]
    Upstream,
    #[error("The upstream server is timing out")]
    Timeout,
    #[error("Internal Error")]
    Internal,
}

impl From<NoToken> for Refusal {
    fn from(error: NoToken) -> Self {
        Self::Token(Cow::Owned(error.to_string()))
    }
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Path(_)
            | Self::Framing(_)
            | Self::Body(UploadError::Malformed | UploadError::BrokenOff) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Fixed(status, _) => *status,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::RateLimited(_) => Quota::STATUS,
            Self::Body(UploadError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(UploadError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoDecision | Self::TooManyWebsockets | Self::Name => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Which of the gateway's rules it is, for the log.
    pub(crate) fn rule(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Framing(_) => "framing",
            Self::Method => "method",
            Self::NoRoute => "route",
            Self::Fixed(..) => "answer",
            Self::Token(_) => "token",
            Self::Forbidden(_) => "policy",
            Self::RateLimited(_) => "rate_limit",
            Self::NoDecision => "decision",
            Self::Body(_) => "body",
            Self::TooManyWebsockets => "websockets",
            Self::Name | Self::Upstream | Self::Timeout => "upstream",
            Self::Internal => "internal",
        }
    }

    /// Whether the next request on the connection can be found.
    pub(crate) fn leaves_connection(&self) -> bool {
        !matches!(self, Self::Framing(_) | Self::Body(_))
    }

    /// The answer.
    pub(crate) fn into_response(self, id: &RequestId) -> Response {
        let status = self.status();
        let problem = match &self {
            Self::NoDecision => Problem::unavailable("policy decision point"),
            Self::TooManyWebsockets => Problem::unavailable("too many websockets"),
            other => Problem::new(status, other.to_string()),
        };
        let mut response = problem.into_response_as(Shape::Message, Some(id.as_str()));
        let headers = response.headers_mut();
        match self {
            Self::Token(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RateLimited(quota) => {
                headers.insert(header::RETRY_AFTER, quota.reset_s.into());
                quota.show(headers);
            }
            // Where a broken request ends is anybody's guess, and what follows `CONNECT` may be meant for the tunnel that there
            // is not, so nothing is read after them.
            Self::Framing(_) | Self::Body(_) | Self::Method => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
