//! Hands a request to one of the instances of a service, and to another one if the first cannot have it.

use std::{borrow::Cow, net::IpAddr};

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header, uri::Authority};
use common::{
    clock::Clock,
    http::{InternalKey, balance::Lease, caller::CALLER_HEADER, server::RequestId},
};
use hyper::Response;
use smallvec::SmallVec;

use crate::{
    admission::Admission,
    connections::Outgoing,
    domain::{
        framing,
        head::{BodyLength, Head},
        headers::{self, CONSUMER_USERNAME, FORWARDED_HOST, FORWARDED_PREFIX, TENANT},
        path,
        route::{Route, Target},
    },
    error::Refusal,
    forward::{Answer, Failure, Forwarder, Stage},
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
pub(crate) struct Permitted<'a> {
    pub(crate) route: &'a Route,
    pub(crate) method: &'a Method,
    /// As the client wrote it.
    pub(crate) uri: &'a Uri,
    /// What the service sees of the path, not encoded.
    pub(crate) path: &'a str,
    /// As the client wrote them.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) id: &'a RequestId,
    /// Where it comes from.
    pub(crate) client: IpAddr,
    pub(crate) admission: Option<&'a Admission>,
    /// Whether it asks for a websocket.
    pub(crate) is_upgrade: bool,
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
    pub(crate) async fn send(
        &self,
        permitted: &Permitted<'_>,
        body: &mut Upload,
    ) -> Result<Answered, Refusal> {
        let route = permitted.route;
        let now_ms = self.clock.now_ms();
        let pool = self.upstreams.pool(&route.target, &route.name, now_ms);
        let pool = pool.ok_or(Refusal::Name)?;
        let deadline = self.forwarder.deadline(route.timeout_ms);
        let is_repeatable = !body.progress().is_unread() && is_safe(permitted.method);
        let length = length_of(permitted.headers, body);
        let instances = pool.balancer.instances().len();
        let mut tried = SmallVec::<[usize; 4]>::new();
        let mut last = Refusal::Upstream;
        loop {
            let now_ms = if tried.is_empty() { now_ms } else { self.clock.now_ms() };
            let instance = pool.choose(permitted.preferred.as_ref(), &tried, now_ms);
            let Some(instance) = instance else { return Err(last) };
            let head = self.head(permitted, &instance.target, length)?;
            let place = instance.index();
            let mut outgoing = Outgoing {
                head: &head,
                length,
                body: &mut *body,
                to_head: permitted.method == Method::HEAD,
                is_repeatable,
                expects_body: matches!(*permitted.method, Method::POST | Method::PUT | Method::PATCH),
                deadline,
            };
            let Failure { refusal, stage } = match self.forwarder.send(instance, &mut outgoing).await {
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
            tried.push(place);
            let may_go_on = stage == Stage::NotSent || (stage == Stage::Sent && is_repeatable);
            if !may_go_on || tried.len() >= instances {
                return Err(last);
            }
            pool.retried();
        }
    }

    /// The head of a request for one instance. Nothing that services trust comes from outside.
    fn head(&self, permitted: &Permitted<'_>, to: &Address, length: BodyLength) -> Result<Vec<u8>, Refusal> {
        let Permitted { route, method, uri, path, headers, id, client, admission, is_upgrade, .. } =
            permitted;
        let target = target_of(uri, &to.base, path)?;
        let mut head = Head::new(method, &target);
        head.add("host", &to.host);
        for (name, value) in headers::passed(headers) {
            head.add(name.as_str(), value);
        }
        if let Some(host) = headers.get(header::HOST) {
            head.add(FORWARDED_HOST.as_str(), host);
        }
        head.add_own("x-forwarded-for", client);
        head.add_own("x-forwarded-proto", "http");
        if !route.strip.is_empty() {
            let strip = HeaderValue::from_str(&route.strip).map_err(|_| Refusal::Internal)?;
            head.add(FORWARDED_PREFIX.as_str(), &strip);
        }
        head.add(RequestId::HEADER.as_str(), &id.value());
        let is_other = matches!(&route.target, Target::Urls(others) if !others.is_trusted);
        match admission {
            // Others could show the signature to our own services.
            Some(Admission { caller, .. }) if is_other => {
                let text = |text: &str| HeaderValue::from_str(text).map_err(|_| Refusal::Internal);
                head.add(CONSUMER_USERNAME.as_str(), &text(&caller.user)?);
                head.add(TENANT.as_str(), &text(caller.tenant.as_str())?);
            }
            Some(admission) => {
                let signed = admission.sign(&self.key, method, &target, &self.clock);
                head.add(CALLER_HEADER.as_str(), &signed);
            }
            None => {}
        }
        if *is_upgrade {
            head.add_own("connection", "upgrade");
            head.add_own("upgrade", "websocket");
        }
        Ok(head.end(length))
    }
}

/// How long the body is for the service: as long as the client says. A body that knows its length because it has reached
/// the limit would be complete before its end has come.
fn length_of(headers: &HeaderMap, body: &Upload) -> BodyLength {
    match framing::length(headers) {
        Some(length) => BodyLength::Exact(length),
        None if body.progress().is_unread() => BodyLength::Unknown,
        None => BodyLength::None,
    }
}

/// Whether carrying out twice is as good as once, even if the first time was not seen to its end.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Path and query for the service. Nothing is copied when the path is the client's.
fn target_of<'a>(uri: &'a Uri, base: &str, upstream_path: &str) -> Result<Cow<'a, str>, Refusal> {
    let encoded = path::encode(upstream_path);
    let original = uri.path_and_query().ok_or(Refusal::Internal)?;
    if base.is_empty() && original.path() == encoded {
        return Ok(Cow::Borrowed(original.as_str()));
    }
    let mut target = String::with_capacity(base.len() + encoded.len() + original.as_str().len());
    target.push_str(base);
    target.push_str(&encoded);
    if let Some(query) = original.query() {
        target.push('?');
        target.push_str(query);
    }
    Ok(Cow::Owned(target))
}
