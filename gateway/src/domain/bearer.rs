//! The user's token in a request (dojot-api.md 1.2).

use axum::http::{HeaderMap, header};

/// Why there is no token; the texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    #[error("Unauthorized")]
    Missing,
    #[error("Multiple tokens provided")]
    Several,
    #[error("Bad token; invalid JSON")]
    Unreadable,
}

/// The token of `Authorization: Bearer`. Tokens in the query are ignored: addresses end up in logs.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, NoToken> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(NoToken::Missing)?;
    if values.next().is_some() {
        return Err(NoToken::Several);
    }
    let value = value.to_str().map_err(|_| NoToken::Unreadable)?.trim();
    let (scheme, token) = value.split_once([' ', '\t']).ok_or(NoToken::Missing)?;
    let token = token.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(NoToken::Missing) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_header_is_read_as_the_contract_says() {
        for (value, expected) in [
            ("Bearer a.b.c", Ok("a.b.c")),
            ("bearer a.b.c", Ok("a.b.c")),
            ("BEARER a.b.c", Ok("a.b.c")),
            ("  Bearer   a.b.c  ", Ok("a.b.c")),
            ("Bearer\ta.b.c", Ok("a.b.c")),
            ("Bearer a b", Ok("a b")),
            ("", Err(NoToken::Missing)),
            ("Bearer", Err(NoToken::Missing)),
            ("Bearer ", Err(NoToken::Missing)),
            ("Bearera.b.c", Err(NoToken::Missing)),
            ("a.b.c", Err(NoToken::Missing)),
            ("Basic YTpi", Err(NoToken::Missing)),
            ("Token a.b.c", Err(NoToken::Missing)),
            ("Bearer ä", Err(NoToken::Unreadable)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(token(&headers), expected, "{value}");
        }
        assert_eq!(token(&HeaderMap::new()), Err(NoToken::Missing));
    }

    #[test]
    fn two_tokens_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(token(&headers), Err(NoToken::Several));
    }
}
