//! Whoever wants a socket comes by here: without a good token nothing is kept of a client, not even a session.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use socketioxide::service::SocketIoService;
use tower::Service;
use tracing::debug;

use super::{
    PING_INTERVAL, PING_TIMEOUT, Shared,
    account::Account,
    handshake::{Handshake, Malformed, Transport, parameter},
    refusal::Refused,
    session::Session,
    wire::Wire,
};

/// What `/socket.io` is served with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) sockets: SocketIoService<Router>,
}

/// Serves a request to `/socket.io`.
pub(crate) async fn enter(State(door): State<Door>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    match parameter(query, "sid").map(str::to_owned) {
        Some(sid) => door.go_on(&sid, request).await,
        None => door.begin(request).await,
    }
}

impl Door {
    /// The first request of a session: its token is spent before there is a session.
    async fn begin(self, request: Request) -> Response {
        if request.method() != Method::GET {
            return malformed(Malformed(2, "Bad handshake method"));
        }
        let query = request.uri().query().unwrap_or_default();
        let handshake = match Handshake::parse(query) {
            Ok(handshake) => handshake,
            Err(error) => return malformed(error),
        };
        let (mut parts, body) = request.into_parts();
        let session = match self.shared.admit(parts.uri.query().unwrap_or_default()).await {
            Ok(session) => session,
            Err(refused) => return refused.tell(handshake, &mut parts).await,
        };
        let account = Arc::clone(&session.account);
        parts.extensions.insert(session);
        let request = Request::from_parts(parts, body);
        match handshake.transport {
            Transport::Websocket => self.upgrade(request, account).await,
            Transport::Polling => self.open(request, &account).await,
        }
    }

    /// Opens a session that polls, and remembers whose it is.
    async fn open(self, request: Request, account: &Arc<Account>) -> Response {
        let (head, body) = self.clone().serve(request).await.into_parts();
        let Ok(body) = to_bytes(body, 4096).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        if let Some(sid) = session_of(&body) {
            self.shared.accounts.remember(&sid, account);
        }
        Response::from_parts(head, Body::from(body))
    }

    /// A request of a session that exists: a poll, a message, or the change to a websocket.
    async fn go_on(self, sid: &str, request: Request) -> Response {
        let Some(account) = self.shared.accounts.of_session(sid) else {
            return malformed(Malformed(1, "Session ID unknown"));
        };
        let query = request.uri().query().unwrap_or_default();
        if parameter(query, "transport") == Some("websocket") {
            return self.upgrade(request, account).await;
        }
        let response = self.serve(request).await;
        let bytes = response.body().size_hint().lower();
        account.written(usize::try_from(bytes).unwrap_or(usize::MAX));
        response
    }

    /// The library agrees to the websocket, and the connection is handed to it through a [`Wire`].
    async fn upgrade(mut self, mut request: Request, account: Arc<Account>) -> Response {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let response = self.clone().serve(Request::from_parts(parts.clone(), body)).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        let shutdown = self.shared.engines.shutdown.clone();
        shutdown.clone().spawn("socket upgrade", async move {
            let Some(Ok(stream)) = shutdown.unless_requested(upgrade).await else { return };
            let wire = Wire::new(TokioIo::new(stream), account, PING_INTERVAL + PING_TIMEOUT);
            if let Err(error) = self.sockets.call((wire, Request::from_parts(parts, ()))).await {
                debug!(%error, "a websocket was not taken");
            }
        });
        response
    }

    async fn serve(mut self, request: Request) -> Response {
        match self.sockets.call(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

impl Shared {
    /// Takes the token out of the store and a place for the socket, and starts reading the topics of its tenant.
    async fn admit(&self, query: &str) -> Result<Session, Refused> {
        let token = parameter(query, "token").filter(|token| !token.is_empty());
        let pass = self.spend(token.ok_or(Refused::MissingToken)?).await?;
        let account = self.accounts.open(&pass.caller.tenant).ok_or(Refused::TooMany)?;
        self.session(pass, account, query).await
    }
}

/// The identifier in an open packet.
fn session_of(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once("\"sid\":\"")?;
    rest.split_once('"').map(|(sid, _)| sid.to_owned())
}

fn malformed(Malformed(code, message): Malformed) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "code": code, "message": message }))).into_response()
}

/// The parts of a request carry the session from the door to the socket.
pub(super) fn carried(parts: &Parts) -> Option<Session> {
    parts.extensions.get::<Session>().cloned()
}
