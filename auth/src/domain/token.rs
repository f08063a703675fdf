//! Tokens: what they look like and why one is refused. The keys are in `crate::keys`.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common::wire::Claims;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The one algorithm that signs tokens.
pub(crate) const ALGORITHM: &str = "RS256";

/// Why a token is refused, in the words of the gateway (dojot-api.md 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Bad token; invalid JSON")]
    Unreadable,
    #[error("Bad token; invalid claims")]
    Claims,
    #[error("No mandatory 'iss' in claims")]
    NoIssuer,
    #[error("Invalid algorithm")]
    Algorithm,
    #[error("Invalid signature")]
    Signature,
    #[error("token expired")]
    Expired,
    #[error("token not valid yet")]
    NotYet,
    #[error("No credentials found for given 'iss'")]
    UnknownIssuer,
}

/// What a token claims, before anybody has looked at its signature.
#[derive(Debug)]
pub(crate) struct Unverified {
    /// Name of the key that is said to have signed it.
    pub(crate) key: String,
    pub(crate) claims: Claims,
    /// Before when it is no good, seconds since the epoch. We never write it; who does must mean it.
    pub(crate) not_before: Option<i64>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Unverified {
    /// Longest token that is looked at, in bytes. Ours have about 800.
    const MAX_LEN: usize = 8192;

    /// Reads a token. Whatever a header may say about keys (`jwk`, `jku`, `x5u`) is not even read.
    pub(crate) fn parse(token: &str) -> Result<Self, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Unreadable);
        };
        if token.len() > Self::MAX_LEN {
            return Err(TokenError::Unreadable);
        }
        let header: Header = decode(header)?;
        let claims: Value = decode(claims)?;
        if claims.get("iss").is_none_or(Value::is_null) {
            return Err(if claims.is_object() { TokenError::NoIssuer } else { TokenError::Claims });
        }
        // `crit` says that the rest must not be understood without an extension; we know none.
        if header.alg != ALGORITHM || header.crit.is_some() {
            return Err(TokenError::Algorithm);
        }
        let not_before = claims.get("nbf").map(|time| time.as_i64().ok_or(TokenError::Claims)).transpose()?;
        let claims = Claims::deserialize(claims).map_err(|_| TokenError::Claims)?;
        Ok(Self { key: header.kid.ok_or(TokenError::Signature)?, claims, not_before })
    }

    /// The claims, if `key` has signed `token`, which they were read from.
    pub(crate) fn verify(self, token: &str, key: &DecodingKey) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::RS256);
        // The time is checked against our clock, which tests can set.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        match jsonwebtoken::decode::<Claims>(token, key, &validation) {
            Ok(_) => Ok(self.claims),
            Err(_) => Err(TokenError::Signature),
        }
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Unreadable)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Unreadable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        format!("{}.{}.c2ln", encode(header), encode(claims))
    }

    fn claims() -> Value {
        json!({"iss": "k", "iat": 1, "exp": 2, "profile": "admin", "groups": [1], "userid": 1,
               "jti": "x", "service": "admin", "username": "admin"})
    }

    #[test]
    fn what_is_no_token_is_named_as_kong_does() {
        let good = json!({"typ": "JWT", "alg": "RS256", "kid": "a"});
        let mut no_issuer = claims();
        no_issuer.as_object_mut().unwrap().remove("iss");
        let mut wrong_type = claims();
        wrong_type["userid"] = json!("1");
        let mut sometime = claims();
        sometime["nbf"] = json!("tomorrow");
        let cases = [
            (String::new(), TokenError::Unreadable),
            ("a.b".to_owned(), TokenError::Unreadable),
            ("a.b.c.d".to_owned(), TokenError::Unreadable),
            ("a.b.c".to_owned(), TokenError::Unreadable),
            ("x".repeat(10_000), TokenError::Unreadable),
            (token(&json!([]), &claims()), TokenError::Unreadable),
            (token(&json!({"kid": "a"}), &claims()), TokenError::Unreadable),
            (token(&good, &json!("text")), TokenError::Claims),
            (token(&good, &json!({})), TokenError::NoIssuer),
            (token(&good, &no_issuer), TokenError::NoIssuer),
            (token(&good, &wrong_type), TokenError::Claims),
            (token(&good, &sometime), TokenError::Claims),
            (token(&json!({"alg": "none", "kid": "a"}), &claims()), TokenError::Algorithm),
            (token(&json!({"alg": "HS256", "kid": "a"}), &claims()), TokenError::Algorithm),
            (token(&json!({"alg": "rs256", "kid": "a"}), &claims()), TokenError::Algorithm),
            (token(&json!({"alg": "RS256", "kid": "a", "crit": ["x"]}), &claims()), TokenError::Algorithm),
            (token(&json!({"alg": "RS256"}), &claims()), TokenError::Signature),
        ];
        for (token, expected) in cases {
            assert_eq!(Unverified::parse(&token).unwrap_err(), expected, "{token:.60}");
        }
        let read = Unverified::parse(&token(&good, &claims())).unwrap();
        assert_eq!((read.key.as_str(), read.claims.userid), ("a", 1));
    }
}
