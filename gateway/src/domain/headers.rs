//! Which headers pass, and which only the gateway may set.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::framing;

/// Where the request came from, for services.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client asked.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What was removed from the front of the path.
pub(crate) const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The user's name, for services that are not ours (dojot-api.md 1.1).
pub(crate) const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
/// The user's tenant, for services that are not ours.
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-tatami-tenant");

type Names = SmallVec<[HeaderName; 8]>;

/// The headers of a request that a service sees as the client wrote them: not what concerns only the connection to the client,
/// not what only the gateway may say, and not what it writes anew.
pub(crate) fn passed(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = named_by_connection(headers);
    headers.iter().filter(move |(name, _)| {
        !(is_hop_by_hop(name) || is_written_anew(name) || is_ours(name.as_str()) || named.contains(name))
    })
}

/// Removes from an answer what concerns only the connection to the service, and what is ours.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    let is_unwanted = |name: &&HeaderName| is_hop_by_hop(name) || name.as_str().starts_with("x-tatami-");
    let mut unwanted: Names = headers.keys().filter(is_unwanted).cloned().collect();
    // A length belongs to the message, whatever is said of it.
    let named = named_by_connection(headers).into_iter();
    unwanted.extend(named.filter(|name| *name != header::CONTENT_LENGTH));
    for name in unwanted {
        headers.remove(name);
    }
}

/// What `Connection` names belongs to this connection too.
fn named_by_connection(headers: &HeaderMap) -> Names {
    framing::tokens(headers, &header::CONNECTION).filter_map(|name| name.parse().ok()).collect()
}

fn is_written_anew(name: &HeaderName) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        || *name == header::EXPECT
        || name.as_str() == "x-request-id"
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::PROXY_AUTHENTICATE
        || *name == header::PROXY_AUTHORIZATION
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Names that services may trust because they come from the gateway. Some servers read `_` as `-`.
fn is_ours(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["x-tatami-", "x-forwarded-", "x-consumer-", "x-credential-", "x-anonymous-"];
    const NAMES: [&str; 4] = ["x-real-ip", "forwarded", "x-original-url", "x-rewrite-url"];
    let is_listed =
        |name: &str| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    match name.as_bytes().first() {
        Some(b'x' | b'f') if name.contains('_') => is_listed(&name.replace('_', "-")),
        Some(b'x' | b'f') => is_listed(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in names {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn requests_lose_what_is_not_theirs_to_say() {
        let sent = headers(&[
            ("host", "platform"),
            ("x-request-id", "1"),
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
            ("content-length", "3"),
            ("connection", "close, X-Secret , content-length"),
            ("connection", "te"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic x"),
            ("expect", "100-continue"),
            ("x-tatami-caller", "forged"),
            ("x_tatami_caller", "forged"),
            ("x-tatami_caller", "forged"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x_forwarded_host", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-consumer-username", "admin"),
            ("x-original-url", "/auth/pdp"),
            ("x-custom", "stays"),
        ]);
        let passed: Vec<_> = passed(&sent).map(|(name, _)| name.as_str()).collect();
        assert_eq!(passed, ["accept", "authorization", "x-custom"]);
    }

    #[test]
    fn answers_lose_what_concerns_the_connection() {
        let mut answer = headers(&[
            ("content-type", "text/plain"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("x-tatami-caller", "leaked"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        clean_response(&mut answer);
        assert_eq!(names(&answer), ["content-type", "set-cookie"]);
        assert_eq!(answer.get_all("set-cookie").iter().count(), 2);
    }
}
