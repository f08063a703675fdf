//! What is written as the head of a request is read as that and as nothing else. The first line of the input is
//! `GET /path?query 5`: method, target, and the length of the body, which may be `chunked` or missing. The others are
//! headers of a client.

use axum::http::{HeaderMap, Method, uri::PathAndQuery};

use crate::{
    gateway::{
        head::{BodyLength, Head},
        headers::passed,
    },
    headers::header,
};

/// More are refused by the HTTP implementation.
const MAX_HEADERS: usize = 100;

/// Checks one input.
pub fn check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let mut next = || words.next().unwrap_or_default();
    let (method, target, length) = (Method::from_bytes(next()), PathAndQuery::try_from(next()), next());
    let (Ok(method), Ok(target)) = (method, target) else { return };
    let (length, framing) = match str::from_utf8(length).ok().and_then(|length| length.parse().ok()) {
        Some(length) => (BodyLength::Exact(length), Some(("content-length", length.to_string()))),
        None if length == b"chunked" => {
            (BodyLength::Unknown, Some(("transfer-encoding", "chunked".to_owned())))
        }
        None => (BodyLength::None, None),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.take(MAX_HEADERS).filter_map(header) {
        headers.append(name, value);
    }

    let mut head = Head::new(&method, target.as_str());
    let mut expected = Vec::new();
    for (name, value) in passed(&headers) {
        head.add(name.as_str(), value);
        expected.push((name.as_str(), value.as_bytes()));
    }
    head.add_own("x-forwarded-for", std::net::Ipv6Addr::LOCALHOST);
    expected.push(("x-forwarded-for", b"::1"));
    expected.extend(framing.iter().map(|(name, value)| (*name, value.as_bytes())));
    let written = head.end(length);

    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS + 2];
    let mut read = httparse::Request::new(&mut room);
    assert_eq!(read.parse(&written), Ok(httparse::Status::Complete(written.len())));
    assert_eq!(
        (read.method, read.path, read.version),
        (Some(method.as_str()), Some(target.as_str()), Some(1))
    );
    let found: Vec<_> = read.headers.iter().map(|header| (header.name, header.value)).collect();
    assert_eq!(found, expected);
    let says = |names: &[&str]| found.iter().filter(|(name, _)| names.contains(name)).count();
    assert_eq!(says(&["content-length", "transfer-encoding"]), usize::from(length != BodyLength::None));
    assert_eq!(says(&["host", "connection", "upgrade", "expect", "trailer", "te"]), 0);
}
