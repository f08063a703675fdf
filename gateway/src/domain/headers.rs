//! Which headers pass, and which only the gateway may set.

use axum::http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;

use super::framing;

/// Where the request came from, for services.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client asked.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The protocol that the client used.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What was removed from the front of the path.
pub(crate) const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The user's name, for services that are not ours (dojot-api.md 1.1).
pub(crate) const CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
/// The user's tenant, for services that are not ours.
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-tatami-tenant");

type Names = SmallVec<[HeaderName; 8]>;

/// Removes from a request what concerns only the connection to the client, and what only the gateway may say.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    remove(headers, |name| is_hop_by_hop(name) || is_ours(name.as_str()) || *name == header::EXPECT);
}

/// Removes from an answer what concerns only the connection to the service, and what is ours.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove(headers, |name| is_hop_by_hop(name) || name.as_str().starts_with("x-tatami-"));
}

fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let mut unwanted: Names = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    // What `Connection` names belongs to this connection too; a length belongs to the message, whatever it says.
    let named = framing::tokens(headers, &header::CONNECTION).filter_map(|name| name.parse().ok());
    unwanted.extend(named.filter(|name: &HeaderName| *name != header::CONTENT_LENGTH));
    for name in unwanted {
        headers.remove(name);
    }
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
    use axum::http::HeaderValue;

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
        let mut sent = headers(&[
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
        clean_request(&mut sent);
        assert_eq!(names(&sent), ["accept", "authorization", "content-length", "x-custom"]);
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
