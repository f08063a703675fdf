//! The header that names the caller of a request between services, signed for this one method and path.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, Method};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{clock::Clock, wire::Tenant};

/// Carries the signed caller. The gateway removes it from what comes from outside.
pub const CALLER_HEADER: HeaderName = HeaderName::from_static("x-tatami-caller");

/// How long a signed header is good, in milliseconds: clocks of the platform's machines may differ by this much.
const LIFETIME_MS: i64 = 30_000;

/// Whether a person or one of our services calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    /// A user whose token the gateway has verified and for whom the PDP has permitted the request.
    User,
    /// Another service of the platform.
    Service,
}

/// Tenant and user of a request. As an extractor it refuses requests without a verified caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Whose data the request may see.
    pub tenant: Tenant,
    /// Login name, or the name of the calling service.
    pub user: String,
    /// Identifier of the user; 0 for services.
    pub user_id: i64,
    /// Person or service.
    pub kind: CallerKind,
    /// When the user's token expires, seconds since the epoch; 0 for services.
    pub expires_s: i64,
    /// Which of the tenants that have had this name; 0 for services, which do not know.
    #[serde(default)]
    pub generation: i64,
}

impl Caller {
    /// A call of one of our services on behalf of a tenant.
    pub fn service(name: &str, tenant: &Tenant) -> Self {
        Self {
            tenant: tenant.clone(),
            user: name.to_owned(),
            user_id: 0,
            kind: CallerKind::Service,
            expires_s: 0,
            generation: 0,
        }
    }

    /// Whether the user's token has expired.
    pub fn has_expired(&self, now_s: i64) -> bool {
        self.expires_s != 0 && self.expires_s <= now_s
    }
}

/// The key that the services of one installation share. Cheap to clone.
#[derive(Clone)]
pub struct InternalKey(Arc<Hmac<Sha256>>);

#[derive(Serialize, Deserialize)]
struct Signed<'a> {
    #[serde(flatten)]
    caller: std::borrow::Cow<'a, Caller>,
    /// Until when the header is good, milliseconds since the epoch.
    until: i64,
}

impl InternalKey {
    /// Fewest characters of a secret.
    pub const MIN_SECRET_LEN: usize = 32;

    /// The key made from the setting `internal.secret`; `None` when it is shorter than 32 characters.
    pub fn new(secret: &str) -> Option<Self> {
        if secret.len() < Self::MIN_SECRET_LEN {
            return None;
        }
        Some(Self(Arc::new(Hmac::new_from_slice(secret.as_bytes()).ok()?)))
    }

    /// The header that names `caller` for one request. `path` is path and query as they are sent.
    pub fn sign(&self, method: &Method, path: &str, caller: &Caller, clock: &Clock) -> HeaderValue {
        let signed =
            Signed { caller: std::borrow::Cow::Borrowed(caller), until: clock.now_ms() + LIFETIME_MS };
        // Plain data without maps: writing it as JSON cannot fail, and base64 is always a valid header.
        let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&signed).unwrap_or_default());
        let mac = self.mac(method, path, &payload).finalize().into_bytes();
        let text = format!("{payload}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The caller that a header names, if it was signed with this key for this request and is still good.
    pub fn verify(&self, method: &Method, path: &str, header: &HeaderValue, clock: &Clock) -> Option<Caller> {
        let (payload, mac) = header.to_str().ok()?.split_once('.')?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.mac(method, path, payload).verify_slice(&mac).ok()?;
        let signed: Signed<'_> =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let left = signed.until.saturating_sub(clock.now_ms());
        (-LIFETIME_MS..=2 * LIFETIME_MS).contains(&left).then(|| signed.caller.into_owned())
    }

    fn mac(&self, method: &Method, path: &str, payload: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::clone(&self.0);
        for part in [method.as_str(), "\n", path, "\n", payload] {
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: char) -> InternalKey {
        InternalKey::new(&letter.to_string().repeat(32)).unwrap()
    }

    #[test]
    fn a_header_is_good_for_its_own_request_only() {
        let clock = Clock::fixed(1_000_000);
        let caller = Caller::service("persister", &Tenant::parse("admin").unwrap());
        let header = key('a').sign(&Method::GET, "/device/x?y=1", &caller, &clock);
        let verify = |key: InternalKey, method, path| key.verify(&method, path, &header, &clock);
        assert_eq!(verify(key('a'), Method::GET, "/device/x?y=1"), Some(caller.clone()));
        assert_eq!(verify(key('b'), Method::GET, "/device/x?y=1"), None);
        assert_eq!(verify(key('a'), Method::PUT, "/device/x?y=1"), None);
        assert_eq!(verify(key('a'), Method::GET, "/device/x?y=2"), None);
        clock.advance(2 * LIFETIME_MS + 1);
        assert_eq!(verify(key('a'), Method::GET, "/device/x?y=1"), None);
    }

    #[test]
    fn rubbish_is_no_caller() {
        let clock = Clock::fixed(0);
        for text in ["", ".", "a.b", "eyJ9.AAAA", "äöü"] {
            let Ok(header) = HeaderValue::from_bytes(text.as_bytes()) else { continue };
            assert_eq!(key('a').verify(&Method::GET, "/", &header, &clock), None, "{text}");
        }
    }

    #[test]
    fn no_time_is_too_far_away_to_be_compared() {
        let clock = Clock::fixed(1_000_000);
        let caller = Caller::service("persister", &Tenant::parse("admin").unwrap());
        for until in [i64::MIN, i64::MAX] {
            let signed = Signed { caller: std::borrow::Cow::Borrowed(&caller), until };
            let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&signed).unwrap());
            let mac = key('a').mac(&Method::GET, "/", &payload).finalize().into_bytes();
            let text = format!("{payload}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
            let header = HeaderValue::try_from(text).unwrap();
            assert_eq!(key('a').verify(&Method::GET, "/", &header, &clock), None, "{until}");
        }
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(InternalKey::new("too short").is_none());
    }
}
