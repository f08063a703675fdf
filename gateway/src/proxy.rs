//! The way of a request, step by step: frame → path → route → token → decision → forward → answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header,
        request::Parts,
        uri::{PathAndQuery, Scheme},
    },
    response::Response,
};
use bytes::Bytes;
use common::{
    clock::Clock,
    http::{
        Caller, InternalKey,
        caller::CALLER_HEADER,
        server::{Peer, RequestId},
    },
    shutdown::Shutdown,
};
use futures_util::FutureExt;
use hyper::upgrade::OnUpgrade;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::{debug, error, info};

use crate::{
    decide::Decider,
    domain::{
        bearer, framing,
        headers::{self, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PREFIX, FORWARDED_PROTO},
        path,
        route::{Route, RouteTable, Target},
    },
    error::Refusal,
    forward::Forwarder,
    meter::Meter,
    permit::Permit,
    tunnel::Tunnel,
    upload::{Upload, UploadError},
    upstream::Upstreams,
};

/// Everything that a request meets on its way.
pub(crate) struct Gateway {
    pub(crate) routes: RouteTable,
    pub(crate) meters: Vec<Meter>,
    pub(crate) unrouted: Meter,
    pub(crate) decider: Arc<Decider>,
    pub(crate) upstreams: Upstreams,
    pub(crate) forwarder: Forwarder,
    pub(crate) key: InternalKey,
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

/// Both ends of a connection that may become a websocket.
struct Upgrade {
    client: OnUpgrade,
    permit: OwnedSemaphorePermit,
}

/// Answers every request: identifies it, survives a bug in the way, logs refusals, counts.
pub(crate) async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let mut route = None;
    let (parts, body) = request.into_parts();
    // A client that waits for leave to send its body is not given it by reading from it.
    let waits_for_leave = parts.headers.contains_key(header::EXPECT);
    let mut body = Upload::new(body, gateway.max_body_bytes, started + gateway.upload_time);
    let progress = body.progress();
    let outcome = AssertUnwindSafe(gateway.proxy(parts, &mut body, &id, &mut route)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| {
        error!(request.id = id.as_str(), "a request made the gateway panic");
        Err(Refusal::Internal)
    });
    let mut response = match outcome {
        Ok(response) => response,
        Err(refusal) => {
            report(&refusal, route.as_deref(), &id);
            if refusal.leaves_connection() && !waits_for_leave {
                body.drain().await;
            }
            refusal.into_response(&id)
        }
    };
    response.headers_mut().insert(RequestId::HEADER, id.value());
    if progress.is_unread() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let meter = route.map_or(&gateway.unrouted, |route| &gateway.meters[route.index]);
    meter.count(response.status(), started.elapsed());
    response
}

fn report(refusal: &Refusal, route: Option<&Route>, id: &RequestId) {
    let route = route.map_or("none", |route| route.name.as_str());
    let (status, reason, id) = (refusal.status().as_u16(), refusal.to_string(), id.as_str());
    match refusal {
        Refusal::Forbidden | Refusal::Fixed(..) => {
            info!(granted = false, route, status, reason, request.id = id, "refused");
        }
        _ => debug!(granted = false, route, status, reason, request.id = id, "refused"),
    }
}

impl Gateway {
    async fn proxy(
        &self,
        mut parts: Parts,
        body: &mut Upload,
        id: &RequestId,
        matched: &mut Option<Arc<Route>>,
    ) -> Result<Response, Refusal> {
        framing::check(&parts)?;
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let uri = parts.uri.clone();
        let path = path::normalise(uri.path())?;
        let route = self.routes.find(&path).ok_or(Refusal::NoRoute)?;
        let route = matched.insert(Arc::clone(route));
        // First of all, as with dojot's Kong: without a token nobody learns what there is (dojot-api.md 1.1, 1.2).
        let caller = self.admit(route, &parts, &path, body).await?;
        if !route.allows(&parts.method) {
            return Err(Refusal::NoRoute);
        }
        let service = match &route.target {
            Target::Service(service) => *service,
            Target::Answer(status, message) => return Err(Refusal::Fixed(*status, message.clone())),
        };
        let upstream_path = route.upstream_path(&path).ok_or(Refusal::NoRoute)?;
        if framing::length(&parts.headers).is_some_and(|length| length > self.max_body_bytes as u64) {
            return Err(UploadError::TooLarge.into());
        }
        let address = self.upstreams.address(service, self.clock.now_ms()).ok_or(Refusal::Name)?;
        let target = target_of(&uri, &address.base, &upstream_path)?;
        let upgrade = self.upgrade(&mut parts, route)?;
        prepare_headers(&mut parts, route, id, upgrade.is_some());
        parts.headers.insert(header::HOST, address.host.clone());
        if let Some(caller) = caller {
            self.sign(&mut parts, &target, &caller);
        }
        parts.version = Version::HTTP_11;
        parts.uri = absolute(target, &address.authority)?;
        let request = Request::from_parts(parts, std::mem::replace(body, Upload::empty()));
        let response = self.forwarder.send(request, route.timeout_ms).await?;
        self.answer(response, upgrade)
    }

    /// Who calls, if the route needs to know, and whether the PDP permits it: now, and still when the body is complete.
    async fn admit(
        &self,
        route: &Route,
        parts: &Parts,
        path: &str,
        body: &mut Upload,
    ) -> Result<Option<Arc<Caller>>, Refusal> {
        if !route.is_protected {
            return Ok(None);
        }
        let token = bearer::token(&parts.headers)?;
        let caller = self.decider.decide(token, &parts.method, path).await?;
        if body.progress().is_unread() {
            body.hold_end(Permit {
                decider: Arc::clone(&self.decider),
                token: token.to_owned(),
                method: parts.method.clone(),
                path: path.to_owned(),
                caller: Arc::clone(&caller),
                given: Instant::now(),
                lasts: self.permit_time,
            });
        }
        Ok(Some(caller))
    }

    /// Prepares for a websocket if the client asks for one and the route has them.
    fn upgrade(&self, parts: &mut Parts, route: &Route) -> Result<Option<Upgrade>, Refusal> {
        if !(route.allows_websocket && framing::wants_websocket(parts)) {
            return Ok(None);
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
        let permit = Arc::clone(&self.websockets).try_acquire_owned();
        Ok(Some(Upgrade { client, permit: permit.map_err(|_| Refusal::TooManyWebsockets)? }))
    }

    fn sign(&self, parts: &mut Parts, target: &PathAndQuery, caller: &Caller) {
        let signed = self.key.sign(&parts.method, target.as_str(), caller, &self.clock);
        parts.headers.insert(CALLER_HEADER, signed);
    }

    /// Turns the answer of the service into the answer of the gateway.
    fn answer(
        &self,
        mut response: hyper::Response<hyper::body::Incoming>,
        upgrade: Option<Upgrade>,
    ) -> Result<Response, Refusal> {
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_websocket = response.headers().get(header::UPGRADE).is_some_and(framing::is_websocket);
        headers::clean_response(response.headers_mut());
        match upgrade {
            Some(Upgrade { client, permit }) if is_switch && is_websocket => {
                let service = hyper::upgrade::on(&mut response);
                let tunnel = Tunnel { client, service, idle: self.websocket_idle, permit };
                self.shutdown.spawn("websocket", tunnel.run(self.shutdown.clone()));
                set_upgrade(response.headers_mut());
                Ok(self.forwarder.receive(response))
            }
            // Nobody asked for another protocol, or for this one.
            _ if is_switch => Err(Refusal::Upstream),
            _ => Ok(self.forwarder.receive(response)),
        }
    }
}

/// Makes the headers of the client those of the gateway: nothing that services trust comes from outside.
fn prepare_headers(parts: &mut Parts, route: &Route, id: &RequestId, is_upgrade: bool) {
    let host = parts.headers.remove(header::HOST);
    let headers = &mut parts.headers;
    headers::clean_request(headers);
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(Peer(peer)) = parts.extensions.get() {
        // An address is always a valid header.
        if let Ok(address) = HeaderValue::try_from(peer.ip().to_string()) {
            headers.insert(FORWARDED_FOR, address);
        }
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Ok(prefix) = HeaderValue::from_str(&route.strip)
        && !route.strip.is_empty()
    {
        headers.insert(FORWARDED_PREFIX, prefix);
    }
    headers.insert(RequestId::HEADER, id.value());
    if is_upgrade {
        set_upgrade(headers);
    }
}

fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Path and query for the service. Nothing is copied when the path is the client's.
fn target_of(uri: &Uri, base: &str, upstream_path: &str) -> Result<PathAndQuery, Refusal> {
    let encoded = path::encode(upstream_path);
    let original = uri.path_and_query().ok_or(Refusal::Internal)?;
    if base.is_empty() && original.path() == encoded {
        return Ok(original.clone());
    }
    let mut target = String::with_capacity(base.len() + encoded.len() + original.as_str().len());
    target.push_str(base);
    target.push_str(&encoded);
    if let Some(query) = original.query() {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| Refusal::Internal)
}

fn absolute(target: PathAndQuery, authority: &axum::http::uri::Authority) -> Result<Uri, Refusal> {
    let mut parts = axum::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Refusal::Internal)
}
