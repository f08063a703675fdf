//! When a reading was made.

use common::wire::date;
use serde_json::value::RawValue;

/// A time, and whether it is the one that the message gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since the epoch.
    pub ms: i64,
    /// The message gave something that is no time, and the record's own time was taken.
    pub is_replaced: bool,
}

/// Largest number that is seconds; larger ones are milliseconds.
const MAX_SECONDS: f64 = 2_147_483_647.0;

/// The time that `given` says, else `appended_ms`.
pub fn read(given: Option<&RawValue>, appended_ms: i64) -> Timestamp {
    let Some(given) = given.map(RawValue::get).filter(|text| *text != "null") else {
        return Timestamp { ms: appended_ms, is_replaced: false };
    };
    let found = match serde_json::from_str::<String>(given) {
        Ok(text) => of_number(text.trim()).or_else(|| date::parse_ms(&text)),
        Err(_) => of_number(given),
    };
    match found {
        Some(ms) => Timestamp { ms, is_replaced: false },
        None => Timestamp { ms: appended_ms, is_replaced: true },
    }
}

fn of_number(text: &str) -> Option<i64> {
    // Only what JSON calls a number: Rust reads "inf" and "1_000" as well, or would if it could.
    let starts_well = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number: f64 = starts_well.then(|| text.parse().ok())??;
    let ms = if number > MAX_SECONDS { number } else { (number * 1000.0).round() };
    // Past the range of an i64 the conversion saturates, which is no writable date either.
    let ms = ms.floor() as i64;
    date::is_writable(ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_rule() {
        const NOW: i64 = 1_700_000_000_123;
        let replaced = (NOW, true);
        for (given, expected) in [
            (None, (NOW, false)),
            (Some("null"), (NOW, false)),
            (Some("1528226137452"), (1_528_226_137_452, false)),
            (Some("1528226137452.9"), (1_528_226_137_452, false)),
            (Some("1528226137"), (1_528_226_137_000, false)),
            (Some("1528226137.452"), (1_528_226_137_452, false)),
            (Some("2147483647"), (2_147_483_647_000, false)),
            (Some("2147483648"), (2_147_483_648, false)),
            (Some("0"), (0, false)),
            (Some("-1"), (-1000, false)),
            (Some("1.5e12"), (1_500_000_000_000, false)),
            (Some("\"1528226137452\""), (1_528_226_137_452, false)),
            (Some("\" 1528226137 \""), (1_528_226_137_000, false)),
            (Some("\"2018-06-05T19:15:37.452Z\""), (1_528_226_137_452, false)),
            (Some("\"2018-06-05T19:15:37\""), (1_528_226_137_000, false)),
            (Some("\"20180605T191537Z\""), (1_528_226_137_000, false)),
            (Some("\"2018-06-05T22:15:37+03:00\""), (1_528_226_137_000, false)),
            (Some("\"2018-06-05\""), (1_528_156_800_000, false)),
            (Some("\"yesterday\""), replaced),
            (Some("\"\""), replaced),
            (Some("\"inf\""), replaced),
            (Some("true"), replaced),
            (Some("{}"), replaced),
            (Some("[1]"), replaced),
            (Some("1e300"), replaced),
            (Some("-1e300"), replaced),
            (Some("253402300800000"), replaced),
        ] {
            let raw = given.map(|text| RawValue::from_string(text.to_owned()).unwrap());
            let time = read(raw.as_deref(), NOW);
            assert_eq!((time.ms, time.is_replaced), expected, "{given:?}");
        }
    }
}
