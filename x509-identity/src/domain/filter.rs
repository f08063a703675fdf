//! Conditions on the records of a list (dojot-connectors.md 2.7).

use chrono::DateTime;

use super::{Fingerprint, query::QueryError};

const MAX_VALUE: usize = 1024;

/// A member that records can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    /// `fingerprint`.
    Fingerprint,
    /// `subjectDN`.
    SubjectDn,
    /// `belongsTo.device`.
    Device,
    /// `tenant`.
    Tenant,
    /// `issuedByDojotPki`.
    IssuedByDojotPki,
    /// `autoRegistered`.
    AutoRegistered,
    /// `caFingerprint` and `belongsTo.application`, which no record has.
    Missing,
    /// `validity.notBefore`.
    NotBefore,
    /// `validity.notAfter`.
    NotAfter,
    /// `createdAt`.
    CreatedAt,
    /// `modifiedAt`.
    ModifiedAt,
}

impl Member {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "fingerprint" => Self::Fingerprint,
            "subjectDN" => Self::SubjectDn,
            "belongsTo.device" => Self::Device,
            "tenant" => Self::Tenant,
            "issuedByDojotPki" => Self::IssuedByDojotPki,
            "autoRegistered" => Self::AutoRegistered,
            "caFingerprint" | "belongsTo.application" => Self::Missing,
            "validity.notBefore" => Self::NotBefore,
            "validity.notAfter" => Self::NotAfter,
            "createdAt" => Self::CreatedAt,
            "modifiedAt" => Self::ModifiedAt,
            _ => return None,
        })
    }

    fn is_date(self) -> bool {
        matches!(self, Self::NotBefore | Self::NotAfter | Self::CreatedAt | Self::ModifiedAt)
    }
}

/// How a member is compared. There is no coercion: `000123` is a text like any other (dojot-connectors.md 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `v`: is v.
    Equals,
    /// `!v`: is not v.
    Differs,
    /// `^v`: begins with v.
    BeginsWith,
    /// `$v`: ends with v.
    EndsWith,
    /// `~v`: contains v.
    Contains,
    /// `>v`: is greater than v.
    Above,
    /// `<v`: is less than v.
    Below,
    /// `!` or `null`: is not there.
    Absent,
}

/// What a member is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A text.
    Text(String),
    /// A date, milliseconds since the epoch.
    Date(i64),
}

/// Something that holds for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The member that is compared.
    pub(crate) member: Member,
    /// How it is compared.
    pub(crate) operator: Operator,
    /// What it is compared with; means nothing to [`Operator::Absent`].
    pub(crate) operand: Operand,
}

impl Condition {
    /// Reads `key=value`, `key:value` or `key|value`.
    pub(super) fn of_pair(pair: &str) -> Result<Self, QueryError> {
        let (name, value) = pair
            .split_once(['=', ':', '|'])
            .ok_or_else(|| QueryError(format!("The filter '{pair}' must be a key, '=' and a value.")))?;
        let member = Member::named(name.trim())
            .ok_or_else(|| QueryError(format!("The fields provided are not valid: [{}].", name.trim())))?;
        Self::new(member, value.trim())
    }

    pub(super) fn new(member: Member, value: &str) -> Result<Self, QueryError> {
        let bad = |reason: &str| Err(QueryError(format!("The filter value '{value}' {reason}.")));
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            return Err(QueryError("A filter value is too long or has control characters.".to_owned()));
        }
        if matches!(value, "!" | "null" | "") {
            return Ok(Self { member, operator: Operator::Absent, operand: Operand::Text(String::new()) });
        }
        let (operator, text) = match value.split_at_checked(1) {
            Some(("!", rest)) => (Operator::Differs, rest),
            Some(("^", rest)) => (Operator::BeginsWith, rest),
            Some(("$", rest)) => (Operator::EndsWith, rest),
            Some(("~", rest)) => (Operator::Contains, rest),
            Some((">", rest)) => (Operator::Above, rest),
            Some(("<", rest)) => (Operator::Below, rest),
            _ => (Operator::Equals, value),
        };
        if text.is_empty() {
            return bad("has an operator and nothing else");
        }
        let is_part = matches!(operator, Operator::BeginsWith | Operator::EndsWith | Operator::Contains);
        let operand = match DateTime::parse_from_rfc3339(text) {
            _ if !member.is_date() => Operand::Text(text_of(member, operator, text)),
            _ if is_part => return bad("cannot be a part of a date"),
            Ok(date) => Operand::Date(date.timestamp_millis()),
            Err(_) => return bad("is not a date such as 2026-01-31T12:00:00.000Z"),
        };
        Ok(Self { member, operator, operand })
    }
}

/// A whole fingerprint is found in every spelling.
fn text_of(member: Member, operator: Operator, text: &str) -> String {
    let whole = member == Member::Fingerprint && matches!(operator, Operator::Equals | Operator::Differs);
    match Fingerprint::parse(text) {
        Some(fingerprint) if whole => fingerprint.as_str().to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::query::ListQuery;

    fn conditions(name: &str, value: &str) -> Result<Vec<Condition>, QueryError> {
        ListQuery::parse(&[(name.to_owned(), value.to_owned())]).map(|query| query.conditions)
    }

    fn text(member: Member, operator: Operator, text: &str) -> Condition {
        Condition { member, operator, operand: Operand::Text(text.to_owned()) }
    }

    #[test]
    fn filters_have_two_spellings_and_eight_operators() {
        for (value, operator, operand) in [
            ("000123", Operator::Equals, "000123"),
            ("12e4", Operator::Equals, "12e4"),
            ("!a", Operator::Differs, "a"),
            ("^a", Operator::BeginsWith, "a"),
            ("$a", Operator::EndsWith, "a"),
            ("~a", Operator::Contains, "a"),
            (">a", Operator::Above, "a"),
            ("<a", Operator::Below, "a"),
            ("!", Operator::Absent, ""),
            ("null", Operator::Absent, ""),
            ("é", Operator::Equals, "é"),
        ] {
            let expected = Ok(vec![text(Member::Device, operator, operand)]);
            assert_eq!(conditions("belongsTo.device", value), expected, "{value}");
            for separator in ['=', ':', '|'] {
                let pair = format!("belongsTo.device{separator}{value}");
                assert_eq!(conditions("keyVal", &pair), expected, "{pair}");
            }
        }
        let two = conditions("keyVal", "belongsTo.device=a, issuedByDojotPki=true,").unwrap();
        let expected = [
            text(Member::Device, Operator::Equals, "a"),
            text(Member::IssuedByDojotPki, Operator::Equals, "true"),
        ];
        assert_eq!(two, expected);
    }

    #[test]
    fn fingerprints_and_dates_are_understood() {
        let fingerprint = Fingerprint::of(b"x");
        let bare = fingerprint.as_str().replace(':', "").to_lowercase();
        let expected = vec![text(Member::Fingerprint, Operator::Equals, fingerprint.as_str())];
        assert_eq!(conditions("fingerprint", &bare), Ok(expected.clone()));
        assert_eq!(conditions("keyVal", &format!("fingerprint:{fingerprint}")), Ok(expected));
        let date = conditions("validity.notAfter", "<1970-01-01T00:00:01.500Z").unwrap();
        let operand = Operand::Date(1500);
        assert_eq!(date, [Condition { member: Member::NotAfter, operator: Operator::Below, operand }]);
    }

    #[test]
    fn what_cannot_be_searched_is_refused_or_ignored() {
        assert_eq!(conditions("serial", "1"), Ok(vec![]));
        for (name, value) in [
            ("keyVal", "serial=1"),
            ("keyVal", "fingerprint"),
            ("keyVal", "=x"),
            ("createdAt", "yesterday"),
            ("createdAt", "^2026"),
            ("belongsTo.device", "^"),
            ("belongsTo.device", "a\0b"),
            ("subjectDN", &"x".repeat(1025)),
            ("keyVal", &"tenant=a,".repeat(17)),
        ] {
            assert!(conditions(name, value).is_err(), "{name}={value}");
        }
    }
}
