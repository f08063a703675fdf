//! Record value → text frame (dojot-connectors.md 1.7).

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use serde_json::value::RawValue;

/// The frame that shows a record, or `None` for what is not shown: values that are not JSON, JSON texts, numbers and
/// booleans, and empty objects and arrays.
///
/// The value is checked from end to end and goes out as it was appended: the frame shares the bytes of the record.
pub(crate) fn encode(value: &Bytes) -> Option<Utf8Bytes> {
    let json: &RawValue = serde_json::from_slice(value).ok()?;
    let text = json.get().as_bytes();
    let is_shown = match text {
        [b'{', inner @ .., b'}'] | [b'[', inner @ .., b']'] => !inner.iter().all(u8::is_ascii_whitespace),
        other => other == b"null",
    };
    if !is_shown {
        return None;
    }
    Utf8Bytes::try_from(value.slice_ref(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_arrays_and_null_are_shown_as_they_are() {
        for (value, shown) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (" {\"a\" : 1.0}\n", "{\"a\" : 1.0}"),
            (r#"{"a":{}}"#, r#"{"a":{}}"#),
            ("[[]]", "[[]]"),
            ("null", "null"),
            (r#"{"a":"ä\ud83d"}"#, r#"{"a":"ä\ud83d"}"#),
        ] {
            let frame = encode(&Bytes::copy_from_slice(value.as_bytes()));
            assert_eq!(frame.as_ref().map(Utf8Bytes::as_str), Some(shown), "{value}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        let values: [&[u8]; 16] = [
            b"",
            b" ",
            b"{}",
            b"{ \n}",
            b"[]",
            b"[ ]",
            b"1",
            b"-1.5e3",
            b"true",
            b"false",
            b"\"{}\"",
            b"{\"a\":1",
            b"{\"a\":1} {}",
            b"{\"a\":\"\xff\"}",
            b"nul",
            b"\xef\xbb\xbf{\"a\":1}",
        ];
        for value in values {
            assert_eq!(encode(&Bytes::from_static(value)), None, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_frame_shares_the_bytes_of_the_record() {
        let value = Bytes::from_static(br#"{"a":1}"#);
        let frame = Bytes::from(encode(&value).unwrap());
        assert_eq!(frame.as_ptr(), value.as_ptr());
    }

    #[test]
    fn deep_values_do_not_exhaust_the_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(encode(&Bytes::from(deep)).is_some());
    }
}
