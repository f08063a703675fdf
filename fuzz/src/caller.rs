//! Nobody is a caller but who was signed, for this request and at this time. The input is `GET /path`, the milliseconds
//! that have passed since the signed headers were made, and the header, on lines of their own. A header that begins
//! with `{` is signed as a service would that has the key and means no good.

use std::sync::LazyLock;

use axum::http::{HeaderValue, Method};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::{
    clock::Clock,
    http::signature::{Caller, CallerKind, InternalKey},
    wire::Tenant,
};

const SECRET: &str = "fuzzed-fuzzed-fuzzed-fuzzed-fuzz";
/// When the signed headers were made, milliseconds since the epoch.
const SIGNED_MS: i64 = 1_700_000_000_000;
/// From the making of a header: machines may differ by this much in both directions.
const GOOD_MS: std::ops::RangeInclusive<i64> = -30_000..=60_000;

static KEY: LazyLock<InternalKey> = LazyLock::new(|| InternalKey::new(SECRET).unwrap());

struct Genuine {
    method: Method,
    path: &'static str,
    caller: Caller,
    header: HeaderValue,
}

static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let tenant = Tenant::parse("admin").unwrap();
    let service = Caller::service("persister", &tenant);
    let user = Caller {
        user: "joe \"ü\"".to_owned(),
        user_id: 7,
        kind: CallerKind::User,
        expires_s: 1_700_000_900,
        generation: 3,
        ..service.clone()
    };
    let requests = [(Method::GET, "/device?page=1", user), (Method::POST, "/internal/x", service)];
    let signed = requests.into_iter().map(|(method, path, caller)| {
        let header = KEY.sign(&method, path, &caller, &Clock::fixed(SIGNED_MS));
        Genuine { method, path, caller, header }
    });
    signed.collect()
});

/// Checks one input.
pub fn check(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (Ok(request), Ok(passed_ms), header) = (str::from_utf8(next()), str::from_utf8(next()), next())
    else {
        return;
    };
    let (method, path) = request.split_once(' ').unwrap_or((request, "/"));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let Ok(passed_ms) = passed_ms.parse::<i32>().map(i64::from) else { return };
    let clock = Clock::fixed(SIGNED_MS + passed_ms);
    if header.starts_with(b"{") {
        from_the_inside(&method, path, header, &clock);
    } else {
        from_outside(&method, path, header, passed_ms, &clock);
    }
}

fn from_outside(method: &Method, path: &str, header: &[u8], passed_ms: i64, clock: &Clock) {
    let Ok(header) = HeaderValue::from_bytes(header) else { return };
    let is_this = |it: &&Genuine| it.method == *method && it.path == path && it.header == header;
    let expected = GENUINE.iter().find(is_this).filter(|_| GOOD_MS.contains(&passed_ms)).map(|it| &it.caller);
    let verified = KEY.verify(method, path, &header, clock);
    assert_eq!(verified.as_ref(), expected, "{method} {path} {passed_ms} {header:?}");
}

fn from_the_inside(method: &Method, path: &str, payload: &[u8], clock: &Clock) {
    let text = BASE64_URL_SAFE_NO_PAD.encode(payload);
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let mac = mac.chain_update(format!("{method}\n{path}\n{text}")).finalize().into_bytes();
    let header = HeaderValue::try_from(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))).unwrap();
    let Some(caller) = KEY.verify(method, path, &header, clock) else { return };
    let payload: Value = serde_json::from_slice(payload).unwrap();
    let until = payload["until"].as_i64().unwrap();
    assert!(GOOD_MS.contains(&(clock.now_ms() - until + 30_000)), "good until {until}");
    assert!(caller.tenant.is_management() || Tenant::parse(caller.tenant.as_str()).is_ok());
    let signed_anew = KEY.sign(method, path, &caller, clock);
    assert_eq!(KEY.verify(method, path, &signed_anew, clock), Some(caller));
}
