//! Where a request ends, and what it wants the connection to become. Two readers must never disagree about either.

use axum::http::{HeaderMap, HeaderValue, Method, Version, header, request::Parts};

/// Why a request is refused and its connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFraming {
    #[error("only one transfer encoding is accepted: chunked")]
    TransferEncoding,
    #[error("a request has either a length or a transfer encoding")]
    LengthAndEncoding,
    #[error("a request has one length")]
    Length,
    #[error("a request names one host")]
    Host,
    #[error("a websocket handshake has no body")]
    UpgradeWithBody,
}

/// Checks what the HTTP implementation below lets pass or repairs in silence.
pub(crate) fn check(parts: &Parts) -> Result<(), BadFraming> {
    let headers = &parts.headers;
    let encoding = only(headers, &header::TRANSFER_ENCODING).map_err(|()| BadFraming::TransferEncoding)?;
    let length = only(headers, &header::CONTENT_LENGTH).map_err(|()| BadFraming::Length)?;
    let host = only(headers, &header::HOST).map_err(|()| BadFraming::Host)?;
    if let Some(encoding) = encoding {
        if parts.version != Version::HTTP_11 || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(BadFraming::TransferEncoding);
        }
        if length.is_some() {
            return Err(BadFraming::LengthAndEncoding);
        }
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(BadFraming::Host);
    }
    let has_body = encoding.is_some() || length.is_some_and(|length| length.as_bytes() != b"0");
    if has_body && headers.contains_key(header::UPGRADE) {
        return Err(BadFraming::UpgradeWithBody);
    }
    Ok(())
}

/// The length that a request announces.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    let digits = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // A number may have a sign, a length not.
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// Whether the client asks for a websocket in the way of RFC 6455.
pub(crate) fn wants_websocket(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && only(&parts.headers, &header::UPGRADE).is_ok_and(|value| value.is_some_and(is_websocket))
        && tokens(&parts.headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Whether an `Upgrade` header names the websocket protocol and nothing else.
pub(crate) fn is_websocket(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// The members of a comma-separated header. One that is no text hides no other.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    all.filter_map(|token| str::from_utf8(token.trim_ascii()).ok())
}

/// The value of a header that may be there once.
pub(crate) fn only<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> Result<Option<&'a HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests_end_in_one_place() {
        const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
        const HOST: (&str, &str) = ("host", "a");
        for (version, headers, expected) in [
            (Version::HTTP_11, vec![HOST], Ok(())),
            (Version::HTTP_10, vec![], Ok(())),
            (Version::HTTP_11, vec![HOST, ("content-length", "5")], Ok(())),
            (Version::HTTP_11, vec![HOST, CHUNKED], Ok(())),
            (Version::HTTP_11, vec![HOST, ("transfer-encoding", "Chunked")], Ok(())),
            (Version::HTTP_11, vec![], Err(BadFraming::Host)),
            (Version::HTTP_11, vec![HOST, HOST], Err(BadFraming::Host)),
            (Version::HTTP_11, vec![HOST, CHUNKED, CHUNKED], Err(BadFraming::TransferEncoding)),
            (
                Version::HTTP_11,
                vec![HOST, ("transfer-encoding", "chunked, chunked")],
                Err(BadFraming::TransferEncoding),
            ),
            (
                Version::HTTP_11,
                vec![HOST, ("transfer-encoding", "gzip, chunked")],
                Err(BadFraming::TransferEncoding),
            ),
            (
                Version::HTTP_11,
                vec![HOST, ("transfer-encoding", "identity")],
                Err(BadFraming::TransferEncoding),
            ),
            (Version::HTTP_10, vec![HOST, CHUNKED], Err(BadFraming::TransferEncoding)),
            (
                Version::HTTP_11,
                vec![HOST, CHUNKED, ("content-length", "5")],
                Err(BadFraming::LengthAndEncoding),
            ),
            (
                Version::HTTP_11,
                vec![HOST, ("content-length", "5"), ("content-length", "5")],
                Err(BadFraming::Length),
            ),
            (
                Version::HTTP_11,
                vec![HOST, CHUNKED, ("upgrade", "websocket")],
                Err(BadFraming::UpgradeWithBody),
            ),
            (
                Version::HTTP_11,
                vec![HOST, ("content-length", "1"), ("upgrade", "h2c")],
                Err(BadFraming::UpgradeWithBody),
            ),
        ] {
            assert_eq!(check(&parts(version, &headers)), expected, "{version:?} {headers:?}");
        }
    }

    #[test]
    fn lengths_are_digits() {
        for (value, expected) in [
            ("0", Some(0)),
            ("0005", Some(5)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            ("0x5", None),
            ("5,5", None),
            ("", None),
        ] {
            assert_eq!(
                length(&parts(Version::HTTP_11, &[("content-length", value)]).headers),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_no_text_hides_no_other_token() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_bytes(b"a,\xff, Close\t").unwrap());
        headers.append(header::CONNECTION, HeaderValue::from_static("b"));
        let found: Vec<&str> = tokens(&headers, &header::CONNECTION).collect();
        assert_eq!(found, ["a", "Close", "b"]);
    }

    #[test]
    fn only_a_websocket_is_a_websocket() {
        for (headers, expected) in [
            (vec![("upgrade", "websocket"), ("connection", "Upgrade")], true),
            (vec![("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")], true),
            (vec![("upgrade", "websocket"), ("connection", "keep-alive"), ("connection", "upgrade")], true),
            (vec![("upgrade", "websocket")], false),
            (vec![("connection", "upgrade")], false),
            (vec![("upgrade", "h2c"), ("connection", "upgrade")], false),
            (vec![("upgrade", "websocket, h2c"), ("connection", "upgrade")], false),
            (vec![("upgrade", "websocket"), ("upgrade", "websocket"), ("connection", "upgrade")], false),
        ] {
            assert_eq!(wants_websocket(&parts(Version::HTTP_11, &headers)), expected, "{headers:?}");
        }
    }
}
