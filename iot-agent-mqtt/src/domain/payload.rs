//! The payload of a publish: is it a JSON object that every consumer can read, and when was it measured?
//!
//! Nothing is built: the text is walked once and later copied into the record as it is.

use std::fmt;

use common::wire::date::parse_ms;
use serde::de::{DeserializeSeed, Deserializer as _, Error, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of a payload. Consumers read it inside of an envelope with a parser that stops at 128.
const MAX_DEPTH: u8 = 64;

/// The payload is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnObject;

/// Checks a payload and returns its own time, milliseconds since the epoch, if it states one.
pub(crate) fn inspect(payload: &[u8]) -> Result<Option<i64>, NotAnObject> {
    // serde_json alone would let invalid UTF-8 pass in what it skips.
    let text = std::str::from_utf8(payload).map_err(|_| NotAnObject)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let timestamp = json.deserialize_map(Object).map_err(|_| NotAnObject)?;
    json.end().map_err(|_| NotAnObject)?;
    Ok(timestamp)
}

/// The top level.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<i64>, A::Error> {
        let mut timestamp = None;
        while let Some(is_timestamp) = map.next_key_seed(IsTimestamp)? {
            if is_timestamp {
                // Of members with the same name the last one counts, as in JavaScript.
                timestamp = map.next_value_seed(Time)?;
            } else {
                map.next_value_seed(Anything { levels: MAX_DEPTH - 1 })?;
            }
        }
        Ok(timestamp)
    }
}

/// Whether a member is the `timestamp`.
struct IsTimestamp;

impl<'de> DeserializeSeed<'de> for IsTimestamp {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsTimestamp {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == "timestamp")
    }
}

/// Walks over a value without keeping it. Unlike `IgnoredAny` it refuses what a consumer could not read: numbers
/// out of range, lone surrogates, nesting without end.
#[derive(Clone, Copy)]
struct Anything {
    levels: u8,
}

impl Anything {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Anything {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while list.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        // Names are read and thrown away by a parser that checks them like any other text.
        while map.next_key_seed(IsTimestamp)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// The value of `timestamp`: a number is milliseconds, a text is a date, anything else says nothing.
struct Time;

impl<'de> DeserializeSeed<'de> for Time {
    type Value = Option<i64>;

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<Option<i64>, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Time {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, ms: i64) -> Result<Option<i64>, E> {
        Ok(Some(ms))
    }

    fn visit_u64<E: Error>(self, ms: u64) -> Result<Option<i64>, E> {
        Ok(i64::try_from(ms).ok())
    }

    fn visit_f64<E: Error>(self, ms: f64) -> Result<Option<i64>, E> {
        // Beyond 2^53 a float no longer tells milliseconds apart.
        Ok((ms.abs() < 9_007_199_254_740_992.0).then_some(ms as i64))
    }

    fn visit_str<E: Error>(self, date: &str) -> Result<Option<i64>, E> {
        Ok(parse_ms(date))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<i64>, A::Error> {
        Anything { levels: MAX_DEPTH - 1 }.visit_seq(list).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<i64>, A::Error> {
        Anything { levels: MAX_DEPTH - 1 }.visit_map(map).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Result<Option<i64>, NotAnObject> {
        inspect(payload.as_bytes())
    }

    #[test]
    fn the_time_of_a_payload_is_found() {
        for (payload, expected) in [
            ("{}", None),
            (r#"{"temperature":23.5}"#, None),
            (r#"{"timestamp":1528226137452}"#, Some(1_528_226_137_452)),
            (r#" {"a" : [1,{"timestamp":7}] , "timestamp" : 1528226137452.9 } "#, Some(1_528_226_137_452)),
            (r#"{"timestamp":1,"timestamp":2}"#, Some(2)),
            (r#"{"a":{"timestamp":5}}"#, None),
            (r#"{"timesta\u006dp":5}"#, Some(5)),
            (r#"{"timestamp":-5}"#, Some(-5)),
            (r#"{"timestamp":1e300}"#, None),
            (r#"{"timestamp":18446744073709551615}"#, None),
            (r#"{"timestamp":null}"#, None),
            (r#"{"timestamp":true}"#, None),
            (r#"{"timestamp":{"a":[1]}}"#, None),
            (r#"{"timestamp":"2018-06-05T19:15:37.452Z"}"#, Some(1_528_226_137_452)),
            (r#"{"timestamp":"2018-06-05T16:15:37.452-03:00"}"#, Some(1_528_226_137_452)),
            (r#"{"timestamp":"2018-06-05T16:15:37.452-0300"}"#, Some(1_528_226_137_452)),
            (r#"{"timestamp":"2018-06-05T19:15:37"}"#, Some(1_528_226_137_000)),
            (r#"{"timestamp":"2018-06-05 19:15:37.5"}"#, Some(1_528_226_137_500)),
            (r#"{"timestamp":"2018-06-05"}"#, Some(1_528_156_800_000)),
            (r#"{"timestamp":"yesterday"}"#, None),
        ] {
            assert_eq!(read(payload), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn what_consumers_could_not_read_is_refused() {
        for payload in [
            "",
            " ",
            "null",
            "1",
            "true",
            "[]",
            r#""text""#,
            "{",
            "{}x",
            "{} {}",
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r"{a:1}",
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":NaN}"#,
            r#"{"a":01}"#,
            "{\"a\":\"\u{1}\"}",
        ] {
            assert_eq!(read(payload), Err(NotAnObject), "{payload}");
        }
        for payload in [b"{\"a\":\"\xff\"}".as_slice(), b"{\"\xc3\x28\":1}", b"\xef\xbb\xbf{}"] {
            assert_eq!(inspect(payload), Err(NotAnObject));
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(read(&nested(usize::from(MAX_DEPTH) - 1)), Ok(None));
        assert_eq!(read(&nested(usize::from(MAX_DEPTH))), Err(NotAnObject));
        assert_eq!(read(&nested(100_000)), Err(NotAnObject));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(read(&objects), Err(NotAnObject));
        let timestamps = format!(r#"{{"timestamp":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&timestamps), Err(NotAnObject));
    }
}
