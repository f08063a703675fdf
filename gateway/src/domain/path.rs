//! One path, one meaning: decoded once, refused when another reader could see something else in it.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ambiguity {
    #[error("the path must begin with a slash")]
    NotAbsolute,
    #[error("a percent sign must be followed by two hexadecimal digits")]
    BadEscape,
    #[error("the path is not UTF-8")]
    NotUtf8,
    #[error("the path is encoded twice")]
    EncodedTwice,
    #[error("the path contains an encoded slash")]
    EncodedSlash,
    #[error("the path contains a backslash")]
    Backslash,
    #[error("the path contains a control character")]
    Control,
    #[error("the path contains a parameter")]
    Parameter,
    #[error("the path contains an empty segment")]
    EmptySegment,
    #[error("the path contains a dot segment")]
    DotSegment,
}

/// What a path segment must not show as it is (RFC 3986, `pchar`); the slash separates segments.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Decodes a path once. What comes out is what routes, decisions and services look at.
pub(crate) fn normalise(raw: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if !raw.starts_with('/') {
        return Err(Ambiguity::NotAbsolute);
    }
    let path = decode(raw)?;
    check_characters(&path)?;
    check_segments(&path)?;
    Ok(path)
}

/// Encodes a normalised path for the next reader.
pub(crate) fn encode(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, ESCAPED).into()
}

fn decode(raw: &str) -> Result<Cow<'_, str>, Ambiguity> {
    let Some(first) = raw.find('%') else { return Ok(Cow::Borrowed(raw)) };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw.as_bytes()[..first]);
    let mut rest = &raw.as_bytes()[first..];
    loop {
        match rest {
            [] => break,
            [b'%', high, low, tail @ ..] => {
                let (high, low) = (hex(*high), hex(*low));
                let byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(Ambiguity::BadEscape)?;
                if byte == b'/' {
                    return Err(Ambiguity::EncodedSlash);
                }
                decoded.push(byte);
                rest = tail;
            }
            [b'%', ..] => return Err(Ambiguity::BadEscape),
            [byte, tail @ ..] => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    // Whoever decodes again must not find anything.
    let is_escape = |window: &[u8]| window[0] == b'%' && hex(window[1]).is_some() && hex(window[2]).is_some();
    if decoded.windows(3).any(is_escape) {
        return Err(Ambiguity::EncodedTwice);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Ambiguity::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn check_characters(path: &str) -> Result<(), Ambiguity> {
    for character in path.chars() {
        match character {
            '\\' => return Err(Ambiguity::Backslash),
            // Some servers cut `;...` off a segment, so that `/..;/` becomes `/../`.
            ';' => return Err(Ambiguity::Parameter),
            character if character.is_control() => return Err(Ambiguity::Control),
            _ => {}
        }
    }
    Ok(())
}

fn check_segments(path: &str) -> Result<(), Ambiguity> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_at_end = segments.peek().is_none();
        // Some servers trim segments.
        match segment.trim() {
            // A slash at the very end is no empty segment.
            "" if is_at_end && segment.is_empty() => {}
            "" => return Err(Ambiguity::EmptySegment),
            "." | ".." => return Err(Ambiguity::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are_without_a_copy() {
        for path in [
            "/",
            "/device",
            "/device/",
            "/device/a1b2/attrs",
            "/auth/.well-known/jwks.json",
            "/a/...",
            "/a:b@c,d=e&f+g$h!i*j(k)~l'm",
        ] {
            let normal = normalise(path).unwrap();
            assert!(matches!(normal, Cow::Borrowed(_)), "{path}");
            assert_eq!(normal, path);
            assert!(matches!(encode(&normal), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        for (raw, normal, encoded) in [
            ("/auth/%75ser", "/auth/user", "/auth/user"),
            ("/%61%75%74%68/user", "/auth/user", "/auth/user"),
            ("/auth/%2Ewell-known/jwks.json", "/auth/.well-known/jwks.json", "/auth/.well-known/jwks.json"),
            ("/device/a%20b", "/device/a b", "/device/a%20b"),
            ("/device/%C3%A4", "/device/ä", "/device/%C3%A4"),
            ("/device/50%25", "/device/50%", "/device/50%25"),
            ("/device/x%3Fy%23z", "/device/x?y#z", "/device/x%3Fy%23z"),
            ("/device/%7Bid%7D", "/device/{id}", "/device/%7Bid%7D"),
            ("/device/{id}", "/device/{id}", "/device/%7Bid%7D"),
        ] {
            assert_eq!(normalise(raw).as_deref(), Ok(normal), "{raw}");
            assert_eq!(encode(normal), encoded, "{raw}");
            assert_eq!(normalise(encoded).as_deref(), Ok(normal), "{raw}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use Ambiguity::*;
        for (raw, why) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("device", NotAbsolute),
            ("/%", BadEscape),
            ("/a%2", BadEscape),
            ("/a%zz", BadEscape),
            ("/a%u0041", BadEscape),
            ("/a%2gb", BadEscape),
            ("/%+1", BadEscape),
            ("/%ff", NotUtf8),
            ("/%c0%af", NotUtf8),
            ("/%c0%ae%c0%ae/", NotUtf8),
            ("/%ed%a0%80", NotUtf8),
            ("/auth/%2575ser", EncodedTwice),
            ("/%252e%252e/", EncodedTwice),
            ("/%25252e/", EncodedTwice),
            ("/device/%252F", EncodedTwice),
            ("/device%2Fx", EncodedSlash),
            ("/device%2fx", EncodedSlash),
            ("/device/%2F..", EncodedSlash),
            ("/device/..%2F", EncodedSlash),
            ("/device\\x", Backslash),
            ("/device/..\\", Backslash),
            ("/device%5Cx", Backslash),
            ("/device%5c..%5c", Backslash),
            ("/a%00", Control),
            ("/a%0d%0ab", Control),
            ("/a%09", Control),
            ("/a%7f", Control),
            ("/a%C2%85", Control),
            ("/device/..;/", Parameter),
            ("/device/..;x=y/", Parameter),
            ("/device;x", Parameter),
            ("/device/%3b", Parameter),
            ("/;/device", Parameter),
            ("//", EmptySegment),
            ("//device", EmptySegment),
            ("/device//x", EmptySegment),
            ("/device//", EmptySegment),
            ("///", EmptySegment),
            ("/%20", EmptySegment),
            ("/device/%20/x", EmptySegment),
            ("/device/%20", EmptySegment),
            ("/device/%e2%80%83/x", EmptySegment),
            ("/.", DotSegment),
            ("/./device", DotSegment),
            ("/device/.", DotSegment),
            ("/..", DotSegment),
            ("/../device", DotSegment),
            ("/device/..", DotSegment),
            ("/device/../auth/user", DotSegment),
            ("/%2e%2e/", DotSegment),
            ("/%2E./", DotSegment),
            ("/.%2e/device", DotSegment),
            ("/%2e/", DotSegment),
            ("/..%20/", DotSegment),
            ("/%20../", DotSegment),
        ] {
            assert_eq!(normalise(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn what_is_forwarded_is_read_back_as_what_was_checked() {
        // Every byte, escaped and in several places.
        for byte in 0..=255_u8 {
            for raw in [format!("/a%{byte:02x}b"), format!("/%{byte:02X}/x"), format!("/x/%{byte:02x}")] {
                if let Ok(normal) = normalise(&raw) {
                    assert_eq!(normalise(&encode(&normal)).as_deref(), Ok(&*normal), "{raw}");
                }
            }
        }
    }
}
