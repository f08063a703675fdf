//! A path has one meaning, and the next reader sees the one that was checked. The input is the path.

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use crate::{
    gateway::path::{encode, normalise},
    naive::generously,
};

/// Checks one input.
pub fn check(data: &[u8]) {
    let Ok(raw) = str::from_utf8(data) else { return };
    let normal = normalise(raw);
    assert_eq!(normal.is_ok(), has_one_meaning(raw), "{raw:?} became {normal:?}");
    let Ok(normal) = normal else { return };
    assert_eq!(percent_decode_str(raw).decode_utf8().ok(), Some(normal.clone()), "decoded once");
    assert_eq!(normal.matches('/').count(), raw.matches('/').count(), "{raw:?} has other segments");
    assert_eq!(generously(raw), normal, "no reader sees something else in what came");

    let sent = encode(&normal);
    assert_eq!(normalise(&sent).as_deref(), Ok(&*normal), "{raw:?} is read back from {sent:?}");
    assert_eq!(generously(&sent), normal, "no reader sees something else in what is sent");
    let uri: Uri = sent.parse().unwrap();
    assert_eq!((uri.path(), uri.query()), (&*sent, None), "a client sends all of it as the path");
}

/// The rules one by one, each over the whole path.
fn has_one_meaning(raw: &str) -> bool {
    let is_escape =
        |escape: &str| escape.len() >= 2 && escape.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    let escapes: Vec<&str> = raw.split('%').skip(1).collect();
    let Ok(path) = percent_decode_str(raw).decode_utf8() else { return false };
    raw.starts_with('/')
        && escapes.iter().all(|escape| is_escape(escape))
        && escapes.iter().all(|escape| !escape.to_ascii_lowercase().starts_with("2f"))
        && percent_decode_str(&path).eq(path.bytes())
        && !path.contains(['\\', ';'])
        && !path.contains(char::is_control)
        && !path.split('/').any(|segment| matches!(segment.trim(), "." | ".."))
        && !path[1..].split_inclusive('/').any(|segment| segment.trim_end_matches('/').trim().is_empty())
}
