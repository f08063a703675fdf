//! Requests lose the headers that are not theirs to set and no others, end in one place, and show one token. The first
//! line of the input is `GET HTTP/1.1` or the like; the others are headers.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use regex::bytes::Regex;

use crate::gateway::{
    bearer, framing,
    headers::{clean_response, passed},
};

/// More are refused by the HTTP implementation.
const MAX_HEADERS: usize = 100;

/// Checks one input.
pub fn check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let version = if first.ends_with(b"1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    let Ok(method) = Method::from_bytes(method) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.take(MAX_HEADERS).filter_map(header) {
        headers.append(name, value);
    }
    requests_are_cleaned(&headers);
    answers_are_cleaned(&headers);
    the_token_is_the_only_one(&headers);
    requests_end_in_one_place(method, version, headers);
}

/// Reads a line as a header.
pub(crate) fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "http2-settings",
];

fn requests_are_cleaned(headers: &HeaderMap) {
    static OURS: LazyLock<Regex> = LazyLock::new(|| {
        let names = "forwarded|x[-_](?:real[-_]ip|original[-_]url|rewrite[-_]url)";
        let prefixes = "x[-_](?:tatami|forwarded|consumer|credential|anonymous)[-_].*";
        Regex::new(&format!("^(?:{names}|{prefixes})$")).unwrap()
    });
    let mut cleaned = HeaderMap::new();
    for (name, value) in passed(headers) {
        cleaned.append(name.clone(), value.clone());
    }
    let anew = ["host", "content-length", "expect", "x-request-id"];
    let stays = |name: &str| !anew.contains(&name) && !OURS.is_match(name.as_bytes());
    assert_eq!(cleaned, without(headers, stays), "a request");
}

fn answers_are_cleaned(headers: &HeaderMap) {
    let mut cleaned = headers.clone();
    clean_response(&mut cleaned);
    assert_eq!(cleaned, without(headers, |name| !name.starts_with("x-tatami-")), "an answer");
}

/// The headers that are neither the connection's nor refused.
fn without(headers: &HeaderMap, stays: impl Fn(&str) -> bool) -> HeaderMap {
    let lines =
        headers.get_all(header::CONNECTION).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let named = lines.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let is_named =
        |name: &str| name != "content-length" && named.split(',').any(|token| token.trim() == name);
    let all = headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        stays(name) && !HOP_BY_HOP.contains(&name) && !is_named(name)
    });
    let mut left = HeaderMap::new();
    for (name, value) in all {
        left.append(name, value.clone());
    }
    left
}

fn the_token_is_the_only_one(headers: &HeaderMap) {
    static BEARER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?-u)^[ \t]*(?i:bearer)[ \t]+([!-~](?:[ -~\t]*[!-~])?)[ \t]*$").unwrap()
    });
    let all: Vec<&HeaderValue> = headers.get_all(header::AUTHORIZATION).iter().collect();
    let expected = match all[..] {
        [value] => {
            BEARER.captures(value.as_bytes()).and_then(|found| found.get(1)).map(|token| token.as_bytes())
        }
        _ => None,
    };
    assert_eq!(bearer::token(headers).ok().map(str::as_bytes), expected, "{all:?}");
}

fn requests_end_in_one_place(method: Method, version: Version, headers: HeaderMap) {
    let mut request = Request::new(());
    (*request.method_mut(), *request.version_mut(), *request.headers_mut()) = (method, version, headers);
    let (parts, ()) = request.into_parts();
    let count = |name| parts.headers.get_all(name).iter().count();
    let length = parts.headers.get(header::CONTENT_LENGTH);
    if framing::check(&parts).is_ok() {
        let ends = count(header::CONTENT_LENGTH) + count(header::TRANSFER_ENCODING);
        assert!(ends <= 1 && count(header::HOST) <= 1);
        assert!(version == Version::HTTP_11 || count(header::TRANSFER_ENCODING) == 0);
        let has_body = ends == 1 && length.is_none_or(|length| length != "0");
        assert!(!(has_body && framing::wants_websocket(&parts)), "a handshake with a body");
    }
    if let Some(bytes) = framing::length(&parts.headers) {
        let digits = length.unwrap().to_str().unwrap();
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{digits:?} is {bytes}?");
    }
}
