//! Parameters of lists: which page, which members, which records (dojot-connectors.md 2.7).

use serde_json::{Map, Value, json};

use super::filter::{Condition, Member};

const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 250;
const MAX_CONDITIONS: usize = 16;

/// Members that may be chosen.
const FIELDS: [&str; 15] = [
    "fingerprint",
    "caFingerprint",
    "pem",
    "subjectDN",
    "validity",
    "validity.notBefore",
    "validity.notAfter",
    "createdAt",
    "modifiedAt",
    "issuedByDojotPki",
    "autoRegistered",
    "belongsTo",
    "belongsTo.device",
    "belongsTo.application",
    "tenant",
];

/// What is wrong with the parameters of a request, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct QueryError(pub(super) String);

/// Parameters of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// Number of the page, from 1.
    pub(crate) page: i64,
    /// Records on a page.
    pub(crate) limit: i64,
    /// Members to show.
    pub(crate) fields: Fields,
    /// What holds for every record.
    pub(crate) conditions: Vec<Condition>,
}

impl ListQuery {
    /// Reads the parameters of a query string. Unknown ones are ignored.
    pub(crate) fn parse(parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let mut query = Self {
            page: 1,
            limit: DEFAULT_LIMIT,
            fields: Fields::parse(parameters)?,
            conditions: Vec::new(),
        };
        for (name, value) in parameters {
            match name.as_str() {
                "page" => query.page = positive(name, value)?,
                "limit" => query.limit = positive(name, value)?.min(MAX_LIMIT),
                "keyVal" => {
                    for pair in value.split(',').filter(|pair| !pair.trim().is_empty()) {
                        query.conditions.push(Condition::of_pair(pair)?);
                    }
                }
                name => {
                    if let Some(member) = Member::named(name) {
                        query.conditions.push(Condition::new(member, value)?);
                    }
                }
            }
        }
        if query.conditions.len() > MAX_CONDITIONS {
            return Err(QueryError(format!("There must be at most {MAX_CONDITIONS} filters.")));
        }
        Ok(query)
    }

    /// How many records come before the page.
    pub(crate) fn offset(&self) -> i64 {
        (self.page - 1).saturating_mul(self.limit)
    }

    /// The member `paging` of the answer.
    pub(crate) fn paging(&self, total: i64) -> Value {
        let pages = total.div_euclid(self.limit) + i64::from(total % self.limit > 0);
        let link = |number: i64| {
            let url = format!("/x509/v1/certificates?limit={}&page={number}", self.limit);
            json!({ "number": number, "url": url })
        };
        json!({
            "previous": (2..=pages + 1).contains(&self.page).then(|| link(self.page - 1)),
            "current": link(self.page),
            "next": (self.page < pages).then(|| link(self.page + 1)),
            "totalItems": total,
            "totalPages": pages,
            "limitPerPage": self.limit,
        })
    }
}

fn positive(name: &str, value: &str) -> Result<i64, QueryError> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(QueryError(format!("The parameter '{name}' must be a positive integer."))),
    }
}

/// The chosen members of a record; none means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fields(Vec<&'static str>);

impl Fields {
    /// Reads the parameter `fields`, for example `fingerprint,belongsTo.device`.
    pub(crate) fn parse(parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let named = parameters.iter().filter(|(name, _)| name == "fields");
        let wanted =
            named.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in wanted {
            match FIELDS.iter().find(|field| **field == name) {
                Some(field) if known.contains(field) => {}
                Some(field) => known.push(*field),
                None => unknown.push(name),
            }
        }
        if unknown.is_empty() {
            return Ok(Self(known));
        }
        let (unknown, permitted) = (unknown.join(", "), FIELDS.join(", "));
        Err(QueryError(format!(
            "The fields provided are not valid: [{unknown}]. The permitted ones are: [{permitted}]."
        )))
    }

    /// The record with the chosen members only.
    pub(crate) fn of(&self, record: Value) -> Value {
        if self.0.is_empty() {
            return record;
        }
        let mut chosen = Map::new();
        for field in &self.0 {
            let (outer, inner) = field.split_once('.').map_or((*field, None), |(a, b)| (a, Some(b)));
            let Some(value) = record.get(outer) else { continue };
            let Some(inner) = inner else {
                chosen.insert(outer.to_owned(), value.clone());
                continue;
            };
            let nested = chosen.entry(outer).or_insert_with(|| json!({}));
            if let (Some(nested), Some(value)) = (nested.as_object_mut(), value.get(inner)) {
                nested.insert(inner.to_owned(), value.clone());
            }
        }
        Value::Object(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<ListQuery, QueryError> {
        let owned: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ListQuery::parse(&owned)
    }

    #[test]
    fn pages_have_defaults_and_bounds() {
        for (query, expected) in [
            (&[][..], Some((1, 25))),
            (&[("page", "3"), ("limit", "10")], Some((3, 10))),
            (&[("limit", "250")], Some((1, 250))),
            (&[("limit", "251")], Some((1, 250))),
            (&[("unknown", "x"), ("_", "")], Some((1, 25))),
            (&[("page", "9223372036854775807")], Some((i64::MAX, 25))),
            (&[("page", "9223372036854775808")], None),
            (&[("page", "0")], None),
            (&[("page", "-1")], None),
            (&[("page", "")], None),
            (&[("limit", "1.5")], None),
            (&[("limit", "0")], None),
        ] {
            let found = parse(query).ok().map(|query| (query.page, query.limit));
            assert_eq!(found, expected, "{query:?}");
        }
    }

    #[test]
    fn paging_says_where_one_is() {
        let shown = |page: &str, total: i64| {
            let paging = parse(&[("page", page), ("limit", "10")]).unwrap().paging(total);
            let number = |member: &str| paging[member]["number"].as_i64();
            (number("previous"), number("current"), number("next"), paging["totalPages"].as_i64())
        };
        assert_eq!(shown("1", 0), (None, Some(1), None, Some(0)));
        assert_eq!(shown("1", 10), (None, Some(1), None, Some(1)));
        assert_eq!(shown("1", 11), (None, Some(1), Some(2), Some(2)));
        assert_eq!(shown("2", 21), (Some(1), Some(2), Some(3), Some(3)));
        assert_eq!(shown("3", 21), (Some(2), Some(3), None, Some(3)));
        assert_eq!(shown("4", 30), (Some(3), Some(4), None, Some(3)));
        assert_eq!(shown("9", 30), (None, Some(9), None, Some(3)));
        assert_eq!(shown("9223372036854775807", 30).1, Some(i64::MAX));
        let far = parse(&[("page", "9223372036854775807")]).unwrap();
        assert_eq!(far.offset(), i64::MAX);
    }

    #[test]
    fn fields_choose_members() {
        let record = json!({
            "fingerprint": "F", "pem": "P", "validity": { "notBefore": 1, "notAfter": 2 },
            "belongsTo": { "device": "a" },
        });
        for (fields, expected) in [
            ("", record.clone()),
            ("pem", json!({ "pem": "P" })),
            (" pem , pem", json!({ "pem": "P" })),
            ("validity.notAfter", json!({ "validity": { "notAfter": 2 } })),
            (
                "validity.notAfter,validity.notBefore",
                json!({ "validity": { "notAfter": 2, "notBefore": 1 } }),
            ),
            ("validity.notAfter,validity", json!({ "validity": { "notBefore": 1, "notAfter": 2 } })),
            ("belongsTo.application", json!({ "belongsTo": {} })),
            ("caFingerprint", json!({})),
        ] {
            assert_eq!(parse(&[("fields", fields)]).unwrap().fields.of(record.clone()), expected, "{fields}");
        }
        let refused = parse(&[("fields", "pem,serial,x")]).unwrap_err().to_string();
        assert!(refused.starts_with("The fields provided are not valid: [serial, x]."), "{refused}");
    }
}
