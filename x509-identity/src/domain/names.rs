//! Which names belong to the platform. A device certificate is also good for servers (dojot-connectors.md 2.4), so
//! one that carries the name of a listener would let its device pose as the platform.

use std::net::IpAddr;

/// The first of the claimed names that somebody could take for one of the reserved ones.
pub(crate) fn first_conflict<'a>(claimed: &'a [String], reserved: &[String]) -> Option<&'a str> {
    let reserved: Vec<String> = reserved.iter().map(|name| normalized(name)).collect();
    let conflicts = |name: &String| reserved.iter().any(|reserved| covers(&normalized(name), reserved));
    claimed.iter().find(|name| conflicts(name)).map(String::as_str)
}

/// One spelling for names that clients take for the same: case, a final dot, the ways to write an address.
pub(crate) fn normalized(name: &str) -> String {
    let name = name.trim().trim_end_matches('.').to_lowercase();
    name.parse::<IpAddr>().map_or(name, |address| address.to_canonical().to_string())
}

/// Whether a name, with stars for anything at all, covers another. No client's rule for stars goes further.
fn covers(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = name.split_once(piece) else { return false };
        name = after;
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: [&str; 4] = ["mqtt.example.com", "localhost", "127.0.0.1", "::1"];

    fn conflicts(name: &str) -> bool {
        first_conflict(&[name.to_owned()], &RESERVED.map(str::to_owned)).is_some()
    }

    #[test]
    fn names_of_the_platform_are_recognized_in_disguise() {
        for name in [
            "mqtt.example.com",
            "MQTT.Example.COM",
            "mqtt.example.com.",
            " localhost ",
            "*.example.com",
            "m*.example.com",
            "*",
            "*.*.com",
            "*tt.*.c*m",
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "0:0:0:0:0:0:0:1",
        ] {
            assert!(conflicts(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_free() {
        for name in [
            "",
            "a1b2c3",
            "example.com",
            "mqtt.example.com.evil.org",
            "http.example.com",
            "*.example.org",
            "mqtt.example.comm",
            "x*.example.com",
            "mqtt.example.com*m",
            "127.0.0.2",
            "::2",
        ] {
            assert!(!conflicts(name), "{name}");
        }
    }

    #[test]
    fn nothing_is_reserved_before_there_are_listeners() {
        assert_eq!(first_conflict(&["localhost".to_owned(), "*".to_owned()], &[]), None);
    }
}
