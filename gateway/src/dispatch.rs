//! Hands a request to one of the instances of a service, and to another one if the first cannot have it.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{
        HeaderValue, Method, Uri, header,
        request::Parts,
        uri::{Authority, PathAndQuery, Scheme},
    },
};
use bytes::Bytes;
use common::{
    clock::Clock,
    http::{InternalKey, balance::Lease, caller::CALLER_HEADER},
};
use hyper::Response;

use crate::{
    admission::Admission,
    connections::Answer,
    domain::{
        headers::{CONSUMER_USERNAME, TENANT},
        path,
        route::{Route, Target},
    },
    error::Refusal,
    forward::{Failure, Forwarder, Stage},
    lent::{Home, Lent},
    upload::Upload,
    upstream::{Address, Upstreams},
};

/// An instance that works on a request until this is dropped.
pub(crate) type InUse = Lease<Address>;

/// Sends requests to services.
pub(crate) struct Dispatcher {
    pub(crate) upstreams: Upstreams,
    pub(crate) forwarder: Forwarder,
    pub(crate) key: InternalKey,
    pub(crate) clock: Clock,
}

/// A request that may go to a service.
pub(crate) struct Outgoing<'a> {
    pub(crate) route: &'a Route,
    /// Method and headers, cleaned.
    pub(crate) parts: Parts,
    /// As the client wrote it.
    pub(crate) uri: &'a Uri,
    /// What the service sees of the path, not encoded.
    pub(crate) path: &'a str,
    pub(crate) admission: Option<Arc<Admission>>,
    pub(crate) body: Upload,
    /// The instance that has to answer while it is well.
    pub(crate) preferred: Option<Authority>,
}

/// The answer of a service.
pub(crate) struct Answered {
    pub(crate) response: Response<Answer>,
    /// Whether others could have.
    pub(crate) has_siblings: bool,
}

impl Dispatcher {
    /// Waits until an instance begins to answer.
    pub(crate) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answered, Refusal> {
        let Outgoing { route, parts, uri, path, admission, body, preferred } = outgoing;
        let pool = self.upstreams.pool(&route.target, &route.name, self.clock.now_ms());
        let pool = pool.ok_or(Refusal::Name)?;
        let deadline = self.forwarder.deadline(route.timeout_ms);
        let is_repeatable = !body.progress().is_unread() && is_safe(&parts.method);
        let instances = pool.balancer.instances().len();
        let (mut head, mut body) = (Some(parts), Some(body));
        let mut tried = Vec::new();
        let mut last = Refusal::Upstream;
        loop {
            let instance = pool.choose(preferred.as_ref(), &tried, self.clock.now_ms());
            let (Some(instance), Some(upload)) = (instance, body.take()) else { return Err(last) };
            let is_last = tried.len() + 1 >= instances;
            // Who has no other instance needs no copy.
            let parts = if is_last { head.take() } else { head.clone() };
            let Some(mut parts) = parts else { return Err(last) };
            self.address(&mut parts, route, &instance.target, uri, path, admission.as_deref())?;
            let home = (!is_last).then(Home::default);
            let request = Request::from_parts(parts, Lent::new(upload, home.clone()));
            let place = instance.index();
            let Failure { refusal, stage } = match self.forwarder.send(instance, request, deadline).await {
                Ok(response) => {
                    response.body().instance().succeeded();
                    return Ok(Answered { response, has_siblings: instances > 1 });
                }
                Err(failure) => failure,
            };
            if stage != Stage::Client {
                pool.failed(place, self.clock.now_ms());
            }
            last = refusal;
            body = home.and_then(|home| for_another(stage, &home, is_repeatable));
            if body.is_some() {
                pool.retried();
            }
            tried.push(place);
        }
    }

    /// Completes the head for one instance.
    fn address(
        &self,
        parts: &mut Parts,
        route: &Route,
        to: &Address,
        uri: &Uri,
        path: &str,
        admission: Option<&Admission>,
    ) -> Result<(), Refusal> {
        let target = target_of(uri, &to.base, path)?;
        parts.headers.insert(header::HOST, to.host.clone());
        let is_other = matches!(&route.target, Target::Urls(others) if !others.is_trusted);
        match admission {
            // Others could show the signature to our own services.
            Some(Admission { caller, .. }) if is_other => {
                let text = |text: &str| HeaderValue::from_str(text).map_err(|_| Refusal::Internal);
                parts.headers.insert(CONSUMER_USERNAME, text(&caller.user)?);
                parts.headers.insert(TENANT, text(caller.tenant.as_str())?);
            }
            Some(admission) => {
                let signed = admission.sign(&self.key, &parts.method, target.as_str(), &self.clock);
                parts.headers.insert(CALLER_HEADER, signed);
            }
            None => {}
        }
        parts.uri = absolute(target, to)?;
        Ok(())
    }
}

/// The body for another instance, if that may have the request after the first gave no answer.
fn for_another(stage: Stage, home: &Home, is_repeatable: bool) -> Option<Upload> {
    match stage {
        Stage::NotSent => home.take(),
        Stage::Sent if is_repeatable => Some(Upload::empty()),
        Stage::Sent | Stage::TooLate | Stage::Client => None,
    }
}

/// Whether carrying out twice is as good as once, even if the first time was not seen to its end.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
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

fn absolute(target: PathAndQuery, to: &Address) -> Result<Uri, Refusal> {
    let mut parts = axum::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(to.authority.clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Refusal::Internal)
}
