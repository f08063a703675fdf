//! socket.io clients that poll have to reach the instance that opened their session. The gateway sees the identifier of a
//! session in the answer that opens it, and remembers which instance gave that.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use axum::http::{Uri, uri::Authority};
use bytes::Bytes;
use moka::sync::Cache;

/// Who opened which session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    opened_by: Cache<u64, Authority>,
    hasher: RandomState,
}

/// Sees the beginning of an answer.
pub(crate) type Learner = Box<dyn FnOnce(&Bytes) + Send>;

/// Most sessions that are remembered.
const MAX_SESSIONS: u64 = 100_000;
/// How long one is remembered that nobody uses: socket.io's clients ask more often.
const IDLE: Duration = Duration::from_mins(5);

impl Sessions {
    pub(crate) fn new() -> Self {
        let opened_by = Cache::builder().max_capacity(MAX_SESSIONS).time_to_idle(IDLE).build();
        Self { opened_by, hasher: RandomState::new() }
    }

    /// The instance that opened the session of a request.
    pub(crate) fn instance(&self, uri: &Uri) -> Option<Authority> {
        self.opened_by.get(&self.hasher.hash_one(session_of(uri)?))
    }

    /// What has to see the beginning of the answer to a request that opens a session; `None` for other requests.
    pub(crate) fn learner(&self, uri: &Uri, instance: &Authority) -> Option<Learner> {
        if session_of(uri).is_some() {
            return None;
        }
        let (sessions, instance) = (self.clone(), instance.clone());
        Some(Box::new(move |beginning| {
            if let Some(session) = opened(beginning) {
                sessions.opened_by.insert(sessions.hasher.hash_one(session), instance);
            }
        }))
    }
}

/// The session that a request names.
fn session_of(uri: &Uri) -> Option<&str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == "sid").map(|(_, sid)| sid).find(|sid| !sid.is_empty())
}

/// The session that an answer of Engine.IO opens, in whichever version: `0{"sid":"…",…}` with something before it.
fn opened(answer: &[u8]) -> Option<&str> {
    const BEFORE: &[u8] = b"\"sid\":\"";
    const LONGEST: usize = 256;
    let start = answer.windows(BEFORE.len()).take(LONGEST).position(|window| window == BEFORE)?;
    let rest = answer.get(start + BEFORE.len()..)?;
    let end = rest.iter().take(LONGEST).position(|byte| *byte == b'"')?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_from_answers_and_addresses() {
        for (answer, expected) in [
            (&br#"0{"sid":"abc-_1","upgrades":[]}"#[..], Some("abc-_1")),
            (br#"97:0{"sid":"abc","pingInterval":25000}"#, Some("abc")),
            (b"\x00\x09\x07\xff0{\"sid\":\"abc\"}", Some("abc")),
            (br#"0{"sid":"never ends"#, None),
            (b"ok", None),
            (b"", None),
        ] {
            assert_eq!(opened(answer), expected);
        }
        for (uri, expected) in [
            ("/socket.io/?EIO=3&transport=polling&sid=abc", Some("abc")),
            ("/socket.io/?sid=&EIO=3", None),
            ("/socket.io/?EIO=3", None),
            ("/socket.io/", None),
        ] {
            assert_eq!(session_of(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    #[test]
    fn a_session_leads_to_who_opened_it() {
        let sessions = Sessions::new();
        let opening: Uri = "/socket.io/?EIO=3".parse().unwrap();
        let using: Uri = "/socket.io/?EIO=3&sid=abc".parse().unwrap();
        let instance = Authority::from_static("b:2");
        assert_eq!(sessions.instance(&using), None);
        sessions.learner(&opening, &instance).unwrap()(&Bytes::from_static(br#"0{"sid":"abc"}"#));
        assert_eq!(sessions.instance(&using), Some(instance.clone()));
        assert!(sessions.learner(&using, &instance).is_none());
    }
}
