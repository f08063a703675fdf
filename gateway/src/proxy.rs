//! The way of a request, step by step: frame → path → route → token → decision → forward → answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use common::{
    clock::Clock,
    http::{
        Caller,
        server::{Peer, RequestId},
    },
    shutdown::Shutdown,
};
use futures_util::FutureExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::error;

use crate::{
    account,
    admission::Admission,
    decide::Decider,
    dispatch::{Answered, Dispatcher, Permitted},
    domain::{
        bearer,
        client::TrustedProxies,
        framing, headers, path,
        route::{Access, Route, Target},
    },
    error::Refusal,
    forward::Forwarder,
    limit::{Attempt, Limiter},
    live::{Live, Routes},
    meter::{Meter, Outcome},
    permit::Permit,
    report::Reporter,
    session::{Learner, Sessions},
    tunnel::Tunnel,
    upload::{Upload, UploadError},
};

/// Longest name of a method; the longest that is registered has 17 letters.
const MAX_METHOD_BYTES: usize = 32;
/// How much of a body has to be here before a service is bothered with the request.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// Everything that a request meets on its way.
pub(crate) struct Gateway {
    pub(crate) routes: Routes,
    pub(crate) unrouted: Meter,
    pub(crate) decider: Arc<Decider>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) sessions: Sessions,
    pub(crate) limiter: Limiter,
    pub(crate) proxies: TrustedProxies,
    pub(crate) reporter: Reporter,
    pub(crate) clock: Clock,
    pub(crate) max_body_bytes: usize,
    /// Longest time for a body to arrive.
    pub(crate) upload_time: Duration,
    /// How long a decision stands while the body arrives.
    pub(crate) permit_time: Duration,
    pub(crate) websockets: Arc<Semaphore>,
    pub(crate) websocket_idle: Duration,
    pub(crate) shutdown: Shutdown,
}

/// What is known of a request so far. Whatever happens to it, this is left for log, metrics and limits.
pub(crate) struct Trace<'a> {
    /// The table that it began with.
    live: Arc<Live>,
    pub(crate) id: RequestId,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) caller: Option<Arc<Caller>>,
    /// Has to be told how it ended.
    attempt: Option<Attempt>,
}

/// Both ends of a connection that may become a websocket.
struct Upgrade {
    client: OnUpgrade,
    permit: OwnedSemaphorePermit,
}

/// Answers every request: identifies it, survives a bug in the way, logs refusals, counts.
pub(crate) async fn handle(gateway: Arc<Gateway>, request: Request<Incoming>, peer: Peer) -> Response {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let mut trace = Trace {
        live: gateway.routes.current(),
        id: RequestId::of(&parts.headers),
        method: &parts.method,
        uri: &parts.uri,
        route: None,
        caller: None,
        attempt: None,
    };
    // A client that waits for leave to send its body is not given it by reading from it.
    let waits_for_leave = parts.headers.contains_key(header::EXPECT);
    let body = if body.is_end_stream() { Body::empty() } else { Body::new(body) };
    let mut body = Upload::new(body, gateway.max_body_bytes, started + gateway.upload_time);
    let progress = body.progress();
    let outcome = {
        // It is large, so it is not moved on the way into `catch_unwind`.
        let work = std::pin::pin!(gateway.proxy(&parts, peer, upgrade, &mut body, &mut trace));
        AssertUnwindSafe(work).catch_unwind().await
    };
    let outcome = outcome.unwrap_or_else(|_| {
        error!(request.id = trace.id.as_str(), "a request made the gateway panic");
        Err(Refusal::Internal)
    });
    let (mut response, outcome) = match outcome {
        Ok(response) => {
            let is_refusal = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if is_refusal || trace.attempt.as_ref().is_some_and(Attempt::has_failed) {
                gateway.reporter.report_service(response.status(), &trace, gateway.clock.now_s());
            }
            (response, Outcome::Answered)
        }
        Err(refusal) => {
            gateway.reporter.report(&refusal, &trace, gateway.clock.now_s());
            if refusal.leaves_connection() && !waits_for_leave {
                body.drain().await;
            }
            let outcome = if refusal.status().is_server_error() { Outcome::Failed } else { Outcome::Refused };
            (refusal.into_response(&trace.id), outcome)
        }
    };
    if let Some(attempt) = trace.attempt.take() {
        attempt.end(&mut response);
    }
    response.headers_mut().insert(RequestId::HEADER, trace.id.value());
    if progress.is_unread() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let meter = trace.route.as_ref().and_then(|route| trace.live.meters.get(route.index));
    meter.unwrap_or(&gateway.unrouted).count(response.status(), outcome, started.elapsed());
    response
}

impl Gateway {
    async fn proxy(
        &self,
        parts: &Parts,
        Peer(peer): Peer,
        upgrade: Option<OnUpgrade>,
        body: &mut Upload,
        trace: &mut Trace<'_>,
    ) -> Result<Response, Refusal> {
        framing::check(parts)?;
        let is_too_long = parts.method.as_str().len() > MAX_METHOD_BYTES;
        if is_too_long || matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let path = path::normalise(parts.uri.path())?;
        let route = Arc::clone(trace.live.table.find(&path).ok_or(Refusal::NoRoute)?);
        trace.route = Some(Arc::clone(&route));
        // First of all, as with dojot's Kong: without a token nobody learns what there is (dojot-api.md 1.1, 1.2).
        let admission = self.admit(&route, parts, &path, body).await?;
        trace.caller = admission.as_ref().map(|admission| Arc::clone(&admission.caller));
        if !route.allows(&parts.method) {
            return Err(Refusal::NoRoute);
        }
        if let Target::Answer(status, message) = &route.target {
            return Err(Refusal::Fixed(*status, message.clone()));
        }
        let upstream_path = route.upstream_path(&path).ok_or(Refusal::NoRoute)?;
        if framing::length(&parts.headers).is_some_and(|length| length > self.max_body_bytes as u64) {
            return Err(UploadError::TooLarge.into());
        }
        let client = self.proxies.client(peer.ip(), &parts.headers);
        if let Some(limit) = &route.rate_limit {
            let account = account::of(limit.account, &parts.headers, &path, body).await?;
            trace.attempt = Some(self.limiter.admit(&route, limit, &account, client).await?);
        }
        // A body that drips costs no connection to the service.
        if body.progress().is_unread() {
            body.read_ahead(READ_AHEAD_BYTES).await?;
        }
        let upgrade = self.upgrade(upgrade, parts, &route)?;
        let permitted = Permitted {
            route: &route,
            method: &parts.method,
            uri: &parts.uri,
            path: &upstream_path,
            headers: &parts.headers,
            id: &trace.id,
            client,
            admission: admission.as_deref(),
            is_upgrade: upgrade.is_some(),
            preferred: if route.is_socketio { self.sessions.instance(&parts.uri) } else { None },
        };
        let answered = self.dispatcher.send(&permitted, body).await?;
        if let Some(attempt) = &mut trace.attempt {
            attempt.hear(answered.response.headers());
        }
        let learns = route.is_socketio && answered.has_siblings && upgrade.is_none();
        let learner = if learns {
            self.sessions.learner(&parts.uri, &answered.response.body().instance().target.authority)
        } else {
            None
        };
        self.answer(answered, learner, upgrade)
    }

    /// Who calls, if the route needs to know, and whether the PDP permits it: now, and still when the body is complete.
    async fn admit(
        &self,
        route: &Route,
        parts: &Parts,
        path: &str,
        body: &mut Upload,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        if route.access == Access::Public {
            return Ok(None);
        }
        let needs_permit = route.access == Access::Protected;
        let token = bearer::token(&parts.headers)?;
        let admission = self.decider.decide(token, &parts.method, path, needs_permit).await?;
        if body.progress().is_unread() {
            body.hold_end(Permit {
                decider: Arc::clone(&self.decider),
                token: token.to_owned(),
                method: parts.method.clone(),
                path: path.to_owned(),
                caller: Arc::clone(&admission.caller),
                is_needed: needs_permit,
                given: Instant::now(),
                lasts: self.permit_time,
            });
        }
        Ok(Some(admission))
    }

    /// Prepares for a websocket if the client asks for one and the route has them.
    fn upgrade(
        &self,
        client: Option<OnUpgrade>,
        parts: &Parts,
        route: &Route,
    ) -> Result<Option<Upgrade>, Refusal> {
        let Some(client) = client.filter(|_| route.allows_websocket && framing::wants_websocket(parts))
        else {
            return Ok(None);
        };
        let permit = Arc::clone(&self.websockets).try_acquire_owned();
        Ok(Some(Upgrade { client, permit: permit.map_err(|_| Refusal::TooManyWebsockets)? }))
    }

    /// Turns the answer of the service into the answer of the gateway.
    fn answer(
        &self,
        answered: Answered,
        learner: Option<Learner>,
        upgrade: Option<Upgrade>,
    ) -> Result<Response, Refusal> {
        let mut response = answered.response;
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_websocket = response.headers().get(header::UPGRADE).is_some_and(framing::is_websocket);
        headers::clean_response(response.headers_mut());
        match upgrade {
            Some(Upgrade { client, permit }) if is_switch && is_websocket => {
                let (head, answer) = response.into_parts();
                let idle = self.websocket_idle;
                let tunnel = Tunnel { client, answer, idle, permit };
                self.shutdown.spawn("websocket", tunnel.run(self.shutdown.clone()));
                let mut response = Response::from_parts(head, Body::empty());
                set_upgrade(response.headers_mut());
                Ok(response)
            }
            // Nobody asked for another protocol, or for this one.
            _ if is_switch => Err(Refusal::Upstream),
            _ => Ok(Forwarder::receive(response, learner)),
        }
    }
}

fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
