//! Errors of HTTP answers. A [`Problem`] says what is wrong; the [`Shape`] of the service says how it is written.

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tracing::error;

use super::server::RequestId;
use crate::engine::{
    event_log::LogError, history_store::HistoryError, sql::SqlError, ticket_store::TicketError,
};

/// How a service writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"message": …, "status": 400}`: auth and device-manager (dojot-api.md 0.3).
    MessageStatus,
    /// `{"message": …}`: gateway, data-broker and kafka-ws (dojot-api.md 1.2, 4.1; dojot-connectors.md 1.1).
    Message,
    /// `{"error": …, "detail": …}`: x509-identity, basic credentials and other later services (dojot-connectors.md 0.2).
    Error,
    /// `{"title": …, "description": …}`: history (dojot-api.md 5.1).
    TitleDescription,
}

#[derive(Debug, Clone)]
enum Text {
    MissingToken,
    InvalidToken,
    Message(Value),
    Titled {
        title: String,
        description: String,
    },
    /// A whole body, where a contract has one of its own.
    Body(Value),
}

/// Name of the answer's header by which a service tells the gateway that somebody tried something and failed, such as a login, where
/// the status does not say it. It never leaves the platform.
pub const FAILURE_HEADER: HeaderName = HeaderName::from_static("x-tatami-failure");
/// Its value.
pub const FAILURE: HeaderValue = HeaderValue::from_static("1");

/// An error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    text: Text,
    /// Boxed, so that a `Result` with a problem stays small.
    detail: Option<Box<Value>>,
    /// When to try again, in seconds.
    retry_after_s: Option<u32>,
    /// The gateway shall count it, whatever the status.
    is_failure: bool,
}

impl Problem {
    /// An error with a text, or with a list of texts.
    pub fn new(status: StatusCode, message: impl Into<Value>) -> Self {
        Self {
            status,
            text: Text::Message(message.into()),
            detail: None,
            retry_after_s: None,
            is_failure: false,
        }
    }

    /// An error with a title, for [`Shape::TitleDescription`].
    pub fn titled(status: StatusCode, title: impl Into<String>, description: impl Into<String>) -> Self {
        let text = Text::Titled { title: title.into(), description: description.into() };
        Self { status, text, detail: None, retry_after_s: None, is_failure: false }
    }

    /// An error whose whole body the contract gives.
    pub fn with_body(status: StatusCode, body: Value) -> Self {
        Self { status, text: Text::Body(body), detail: None, retry_after_s: None, is_failure: false }
    }

    /// Adds the `detail` of [`Shape::Error`].
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// Says after how many seconds to try again (`Retry-After`).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Lets the gateway count it as a failure, whatever the status is ([`FAILURE_HEADER`]).
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.is_failure = true;
        self
    }

    /// 400 with a text.
    pub fn bad_request(message: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 with a text.
    pub fn not_found(message: impl Into<Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 401: the request has no token.
    pub(crate) fn missing_token() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            text: Text::MissingToken,
            detail: None,
            retry_after_s: None,
            is_failure: false,
        }
    }

    /// 401: the request has a token that is not good.
    pub fn invalid_token() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            text: Text::InvalidToken,
            detail: None,
            retry_after_s: None,
            is_failure: false,
        }
    }

    /// 403 without a reason.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden")
    }

    /// 503 because something that the request needs is away.
    pub fn unavailable(what: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").detail(json!({ "reason": what }))
    }

    /// 500. What happened goes to the log and not to the client.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        error!(error = format!("{what:#}"), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Error")
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for answers that have a place of their own for it.
    pub fn message(&self) -> String {
        let body = self.clone().body(Shape::Message, None);
        body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn body(self, shape: Shape, request_id: Option<&str>) -> Value {
        let missing_token = |default: &str| match shape {
            Shape::MessageStatus => "No authorization token has been supplied".to_owned(),
            _ => default.to_owned(),
        };
        let (title, message) = match self.text {
            Text::Body(body) => return body,
            Text::Titled { title, description } => (Some(title), Value::String(description)),
            Text::Message(message) => (None, message),
            Text::MissingToken if shape == Shape::TitleDescription => (
                Some("Authentication required".to_owned()),
                "Please provide an auth token as part of the request.".into(),
            ),
            Text::InvalidToken if shape == Shape::TitleDescription => (
                Some("Authentication required".to_owned()),
                "The provided auth token is not valid. Please request a new token and try again.".into(),
            ),
            Text::MissingToken => (None, missing_token("Missing JWT token").into()),
            Text::InvalidToken if shape == Shape::MessageStatus => {
                (None, "Invalid authentication token".into())
            }
            Text::InvalidToken => (None, "Invalid JWT token".into()),
        };
        let mut body = Map::new();
        match shape {
            Shape::MessageStatus => {
                body.insert("message".to_owned(), message);
                body.insert("status".to_owned(), self.status.as_u16().into());
            }
            Shape::Message => {
                body.insert("message".to_owned(), message);
            }
            Shape::Error => {
                body.insert("error".to_owned(), message);
            }
            Shape::TitleDescription => {
                let reason = self.status.canonical_reason().unwrap_or("Error");
                body.insert("title".to_owned(), title.unwrap_or_else(|| reason.to_owned()).into());
                body.insert("description".to_owned(), message);
            }
        }
        if let Some(detail) = self.detail {
            body.insert("detail".to_owned(), *detail);
        }
        if let (true, Some(id)) = (self.status.is_server_error(), request_id) {
            body.insert("request_id".to_owned(), id.into());
        }
        Value::Object(body)
    }

    /// The answer in a given shape, for code that is not behind [`render`].
    pub fn into_response_as(self, shape: Shape, request_id: Option<&str>) -> Response {
        let (status, retry_after_s, is_failure) = (self.status, self.retry_after_s, self.is_failure);
        let mut response = (status, Json(self.body(shape, request_id))).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if is_failure {
            response.headers_mut().insert(FAILURE_HEADER, FAILURE);
        }
        if status == StatusCode::UNAUTHORIZED && shape == Shape::TitleDescription {
            let challenge = HeaderValue::from_static("Token type=\"JWT\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Carries the problem to [`render`], which knows the shape.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware: writes problems, and the plain errors of routing and limits, in the shape of the service.
pub async fn render(shape: Shape, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let mut response = next.run(request).await;
    let id = id.as_ref().map(RequestId::as_str);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return problem.into_response_as(shape, id);
    }
    match plain_problem(&response) {
        Some(problem) => {
            let mut rendered = problem.into_response_as(shape, id);
            if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
                rendered.headers_mut().insert(header::ALLOW, allow);
            }
            rendered
        }
        None => response,
    }
}

/// What an answer of axum or tower-http, which know no shape, should have said.
fn plain_problem(response: &Response<Body>) -> Option<Problem> {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Problem::not_found("Not Found"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(status, "Method Not Allowed"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "request entity too large"),
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable("the request took too long"),
        StatusCode::INTERNAL_SERVER_ERROR => Problem::new(status, "Internal Error"),
        _ => Problem::new(status, status.canonical_reason().unwrap_or("Error")),
    })
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Unavailable(reason) => {
                // Readiness warns once; this would be a line per request.
                tracing::debug!(reason, "a request was refused because the database is away");
                Self::unavailable("database")
            }
            // Constraints that a client can violate are caught where they are known.
            SqlError::Constraint { constraint } => {
                Self::internal(format!("unexpected violation of {constraint}"))
            }
            SqlError::TenantGone => Self::invalid_token(),
            SqlError::Failed(error) => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        SqlError::from(error).into()
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) => Self::unavailable("log"),
            LogError::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request entity too large"),
            LogError::UnknownTopic(_) | LogError::Failed(_) => Self::internal(error),
        }
    }
}

impl From<TicketError> for Problem {
    fn from(error: TicketError) -> Self {
        tracing::debug!(%error, "a request was refused because the ticket store is away");
        Self::unavailable("ticket store")
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unavailable(_) => Self::unavailable("history store"),
            HistoryError::Failed(_) => Self::internal(error),
        }
    }
}
