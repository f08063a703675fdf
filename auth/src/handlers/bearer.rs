//! Who shows a token to auth itself, where the gateway lets everybody through.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, header, request::Parts},
};
use common::{clock::Clock, http::Problem};

use crate::{AppState, access::AccessCache, domain::token::TokenError, keys::KeyRing};

/// Identifier of the user whose good token came as `Authorization: Bearer`.
pub(crate) struct Bearer(pub(super) i64);

impl FromRequestParts<AppState> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(unauthorized("AuthenticationError"));
        };
        let claims = KeyRing::from_ref(state).verify(token).await?.map_err(in_auths_words)?;
        if claims.exp <= Clock::from_ref(state).now_s() {
            return Err(TokenError::Expired.into());
        }
        let user = AccessCache::from_ref(state).of(claims.userid, true).await?;
        let is_good = user
            .is_some_and(|user| user.credential_key == claims.iss && user.tenant.as_str() == claims.service);
        if is_good { Ok(Self(claims.userid)) } else { Err(TokenError::UnknownIssuer.into()) }
    }
}

/// dojot's auth has words of its own where the gateway's would not be seen (dojot-api.md 2.2).
fn in_auths_words(error: TokenError) -> Problem {
    match error {
        TokenError::Unreadable => unauthorized("Corrupted JWT"),
        TokenError::Claims | TokenError::NoIssuer => unauthorized("Invalid JWT payload"),
        other => other.into(),
    }
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, message)
}
