//! Dates as people and devices write them, and as the contracts do.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::clock::date_of;

/// The first millisecond of the year 1.
const FIRST_MS: i64 = -62_135_596_800_000;
/// The last millisecond of the year 9999: what the contracts can write.
const LAST_MS: i64 = 253_402_300_799_999;
/// No date is longer.
const MAX_LEN: usize = 64;

/// Whether the contracts can write a date: years 1 to 9999.
pub fn is_writable(ms: i64) -> bool {
    (FIRST_MS..=LAST_MS).contains(&ms)
}

/// Reads an ISO 8601 date into milliseconds since the epoch, generously: with or without seconds, fraction, offset
/// and time, and with a space for the `T`. Without an offset it is UTC.
pub fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.len() > MAX_LEN || !text.is_ascii() {
        return None;
    }
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.timestamp_millis()).filter(|ms| is_writable(*ms));
    }
    let day_len = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (day, time) = text.split_at(day_len);
    let day = ["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d"]
        .iter()
        .find_map(|format| NaiveDate::parse_from_str(day, format).ok())?;
    let (time, offset_s) = if time.is_empty() { ("", 0) } else { split_offset(time[1..].trim_start())? };
    let date = if time.is_empty() { day.and_hms_opt(0, 0, 0) } else { with_time(day, time) }?;
    let ms = date.and_utc().timestamp_millis() - offset_s * 1000;
    is_writable(ms).then_some(ms)
}

fn with_time(day: NaiveDate, time: &str) -> Option<NaiveDateTime> {
    let time = time.replace(',', ".");
    let formats = ["%H:%M:%S%.f", "%H:%M", "%H%M%S%.f", "%H%M"];
    let parsed = formats.iter().find_map(|format| chrono::NaiveTime::parse_from_str(&time, format).ok());
    Some(day.and_time(parsed?))
}

/// Splits `18:00:00+03:00` into the time and the seconds that it is ahead of UTC.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    for utc in ["Z", "z", "UTC", "GMT"] {
        if let Some(time) = time.strip_suffix(utc) {
            return Some((time.trim_end(), 0));
        }
    }
    let Some(at) = time.rfind(['+', '-', ' ']) else { return Some((time, 0)) };
    let (time, offset) = time.split_at(at);
    // A plus that was not escaped in a URL arrives as a space.
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset[1..].replace(':', "");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 2 | 4) {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    (hours < 24 && minutes < 60).then(|| (time.trim_end(), sign * (hours * 3600 + minutes * 60)))
}

/// Writes milliseconds since the epoch as `2026-11-20T09:33:01Z`, or with microseconds where there is a fraction
/// (dojot-api.md 5.2).
pub fn format_ms(ms: i64) -> String {
    let format = if ms.rem_euclid(1000) == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" };
    date_of(ms).format(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_generously() {
        const SIX: i64 = 1_528_221_600_000;
        for (text, expected) in [
            ("2018-06-05T18:00:00Z", SIX),
            ("2018-06-05T18:00:00z", SIX),
            ("2018-06-05t18:00:00", SIX),
            ("2018-06-05T18:00", SIX),
            ("2018-06-05 18:00:00", SIX),
            ("2018-06-05 18:00:00 UTC", SIX),
            ("  2018-06-05T18:00:00.000000Z ", SIX),
            ("2018-06-05T21:00:00+03:00", SIX),
            ("2018-06-05T21:00:00 03:00", SIX),
            ("2018-06-05 21:00 +0300", SIX),
            ("2018-06-05T15:00:00-03", SIX),
            ("2018-06-05T18:00:00.171Z", SIX + 171),
            ("2018-06-05T18:00:00,171", SIX + 171),
            ("2018-06-05T18:00:00.171999-00:00", SIX + 171),
            ("20180605T180000Z", SIX),
            ("2018-06-05", SIX - 64_800_000),
            ("2018/06/05", SIX - 64_800_000),
            ("Tue, 05 Jun 2018 18:00:00 GMT", SIX),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse_ms(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            " ",
            "T",
            "yesterday",
            "2018",
            "2018-13-01",
            "2018-02-30",
            "2018-06-05T25:00",
            "2018-06-05T18:00:00+3",
            "2018-06-05T18:00:00+99:00",
            "2018-06-05T18:00:00+ü",
            "12018-06-05T18:00:00Z",
            "0000-01-01T00:00:00Z",
            "Fri, 31 Dec 9999 23:59:59 -0100",
            "2018-06-05T18:00:00ZZ",
            "--",
            "+",
            &"2".repeat(1000),
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_written_as_the_contract_does() {
        for (ms, expected) in [
            (1_795_167_181_000, "2026-11-20T09:33:01Z"),
            (1_795_167_241_171, "2026-11-20T09:34:01.171000Z"),
            (-1, "1969-12-31T23:59:59.999000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999000Z"),
            (FIRST_MS, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(format_ms(ms), expected);
            assert_eq!(parse_ms(expected), Some(ms));
        }
    }
}
