//! Who calls. Being inside the network proves nothing: every request between services carries a header that names
//! the caller and is signed for this one method and path.

use axum::{
    extract::{FromRequestParts, Request},
    http::request::Parts,
    middleware::Next,
    response::Response,
};

use super::Problem;
pub use super::signature::{CALLER_HEADER, Caller, CallerKind, InternalKey};
use crate::clock::Clock;

#[derive(Clone)]
enum Verified {
    Caller(Caller),
    Invalid,
}

/// Middleware: verifies the caller header once, before routing changes the path.
pub(crate) async fn verify_caller(
    key: InternalKey,
    clock: Clock,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(header) = request.headers().get(CALLER_HEADER) {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let verified = match key.verify(request.method(), path, header, &clock) {
            Some(caller) => Verified::Caller(caller),
            None => Verified::Invalid,
        };
        request.extensions_mut().insert(verified);
    }
    next.run(request).await
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Verified>() {
            Some(Verified::Caller(caller)) => Ok(caller.clone()),
            Some(Verified::Invalid) => Err(Problem::invalid_token()),
            None => Err(Problem::missing_token()),
        }
    }
}

/// Extractor for endpoints that only our own services may use: to everybody else they do not exist.
#[derive(Debug, Clone)]
pub struct ServiceCaller(pub Caller);

impl<S: Sync> FromRequestParts<S> for ServiceCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, state).await {
            Ok(caller) if caller.kind == CallerKind::Service => Ok(Self(caller)),
            _ => Err(Problem::not_found("Not Found")),
        }
    }
}
