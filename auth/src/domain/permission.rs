//! Permissions: what may be written into them (dojot-api.md 2.3).

use serde_json::{Map, Value};

use super::{
    decide::Pattern,
    fields::{at_most, fields, text},
};

/// The type of permissions that cannot be changed.
pub(crate) const SYSTEM: &str = "system";

const EFFECTS: [&str; 3] = ["permit", "deny", "notApplicable"];
const KINDS: [&str; 3] = [SYSTEM, "api", "notApplicable"];

const NAME: &str = "Invalid name. permission names should start with a letter and only lowercase, \
                    alhpanumeric and underscores are allowed";

/// A permission as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) terms: Terms,
    pub(crate) created_ms: i64,
    pub(crate) created_by: i64,
}

/// What a permission says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) path: String,
    pub(crate) method: String,
    /// `permit` or `deny`; `notApplicable` in imported data.
    pub(crate) effect: String,
    /// `system` or `api`; `notApplicable` in imported data.
    pub(crate) kind: String,
}

/// A permission to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPermission {
    pub(crate) name: String,
    pub(crate) terms: Terms,
}

/// Which permissions are looked for; empty texts stand for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PermissionFilter {
    /// A part of the path.
    pub(crate) path: String,
    /// A part of the method.
    pub(crate) method: String,
    pub(crate) effect: String,
    pub(crate) kind: String,
}

impl NewPermission {
    /// Checks the body of `POST /pap/permission`, in the order of the contract.
    pub(crate) fn parse(body: &Value) -> Result<Self, String> {
        let fields = fields(body);
        let name = text(fields, "name", "Missing permission name", NAME)?;
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let second = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        // dojot looks at the beginning only (dojot-api.md 10).
        if !(first && second) || name.chars().any(char::is_control) {
            return Err(NAME.to_owned());
        }
        at_most(30, &name, "Permission name too long")?;
        Ok(Self { name, terms: Terms::read(fields, "permit", "api")? })
    }
}

impl Terms {
    /// Checks the body of `PUT /pap/permission/{permission}`. Without `permission` and `type` these stay as they are.
    pub(crate) fn parse(body: &Value, stored: &Permission) -> Result<Self, String> {
        let fields = fields(body);
        match fields.get("name") {
            None | Some(Value::Null) => {}
            Some(name) if name.as_str() == Some(&stored.name) => {}
            Some(_) => return Err("permission name can't be changed".to_owned()),
        }
        Self::read(fields, &stored.terms.effect, &stored.terms.kind)
    }

    fn read(fields: &Map<String, Value>, effect: &str, kind: &str) -> Result<Self, String> {
        // What nobody can decide by may be stored, by an import, but not written.
        let one_of = |key: &str, default: &str, known: &[&str], message: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(default.to_owned()),
            Some(Value::String(text)) if known[..2].contains(&text.as_str()) => Ok(text.clone()),
            Some(other) => Err(format!("{message} {}", quoted(other))),
        };
        let effect = one_of("permission", effect, &EFFECTS, "An access control rule can not return")?;
        let kind = one_of("type", kind, &KINDS, "Permission type can't be")?;
        let path = text(fields, "path", "Missing permission Path", "Invalid path")?;
        at_most(254, &path, "Path too long")?;
        let method = text(fields, "method", "Missing permission method", "Invalid method")?;
        at_most(30, &method, "Method too long")?;
        if !(Pattern::is_valid(&path) && Pattern::is_valid(&method)) {
            return Err(format!("{method} is not a valid regular expression."));
        }
        Ok(Self { path, method, effect, kind })
    }

    /// Whether it takes a right away.
    pub(crate) fn denies(&self) -> bool {
        self.effect == "deny"
    }
}

impl PermissionFilter {
    /// Reads the query of `GET /pap/permission`.
    pub(crate) fn parse(get: impl Fn(&str) -> String) -> Result<Self, String> {
        let one_of = |key: &str, known: &[&str], what: &str| {
            let value = get(key);
            if value.is_empty() || known.contains(&value.as_str()) {
                Ok(value)
            } else {
                Err(format!("Invalid filter. {what} can't be {}", shortened(&value)))
            }
        };
        Ok(Self {
            effect: one_of("permission", &EFFECTS, "Permission")?,
            kind: one_of("type", &KINDS, "Permission type")?,
            path: get("path"),
            method: get("method"),
        })
    }
}

/// A refused value as the message shows it.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", shortened(text)),
        other => format!("'{}'", shortened(&other.to_string())),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"name": "p1", "path": "/device/x/(.*)", "method": "GET"})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut body = good();
        body[key] = value;
        body
    }

    #[test]
    fn rows_of_the_contract() {
        let long = |length| Value::from("a".repeat(length));
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        let cases = [
            ("name", Value::Null, "Missing permission name"),
            ("name", json!(""), "Missing permission name"),
            ("name", json!(17), NAME),
            ("name", json!("P1"), NAME),
            ("name", json!("1p"), NAME),
            ("name", json!("p"), NAME),
            ("name", json!("p-1"), NAME),
            ("name", json!("p1\n"), NAME),
            ("name", json!("p1\0"), NAME),
            ("name", long(31), "Permission name too long"),
            ("permission", json!("maybe"), "An access control rule can not return 'maybe'"),
            ("permission", json!("notApplicable"), "An access control rule can not return 'notApplicable'"),
            ("permission", json!(1), "An access control rule can not return '1'"),
            ("type", json!("notApplicable"), "Permission type can't be 'notApplicable'"),
            ("type", json!("x"), "Permission type can't be 'x'"),
            ("path", Value::Null, "Missing permission Path"),
            ("path", json!(""), "Missing permission Path"),
            ("path", json!({"a": 1}), "Invalid path"),
            ("path", deep, "Invalid path"),
            ("path", long(255), "Path too long"),
            ("method", Value::Null, "Missing permission method"),
            ("method", json!([]), "Invalid method"),
            ("method", long(31), "Method too long"),
            ("path", json!("/(device"), "GET is not a valid regular expression."),
            ("method", json!("(GET"), "(GET is not a valid regular expression."),
            ("path", json!("/a)|(?:/b"), "GET is not a valid regular expression."),
            ("path", json!("/(?!secret)"), "GET is not a valid regular expression."),
            ("path", json!(r"/(a)\1"), "GET is not a valid regular expression."),
            ("path", json!("/((.{100}){100}){100}"), "GET is not a valid regular expression."),
        ];
        for (key, value, expected) in cases {
            let refused = NewPermission::parse(&with(key, value.clone())).unwrap_err();
            assert_eq!(refused, expected, "{key} {value}");
        }
        for body in [json!([]), json!(["x"]), json!("x"), json!(null)] {
            assert_eq!(NewPermission::parse(&body).unwrap_err(), "Missing permission name");
        }
    }

    #[test]
    fn what_is_accepted() {
        let cases = [
            ("name", json!("goldbet-0 x")),
            ("name", json!("a".repeat(30))),
            ("path", json!(format!("/{}", "ä".repeat(253)))),
            ("path", json!("(?i)/device/[0-9a-f]{1,6}$")),
            ("method", json!("PUT|DELETE")),
            ("permission", json!("deny")),
            ("type", json!("system")),
        ];
        for (key, value) in cases {
            assert!(NewPermission::parse(&with(key, value.clone())).is_ok(), "{key} {value}");
        }
        let terms = NewPermission::parse(&good()).unwrap().terms;
        assert_eq!((terms.effect.as_str(), terms.kind.as_str(), terms.denies()), ("permit", "api", false));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let NewPermission { name, terms } = NewPermission::parse(&with("permission", json!("deny"))).unwrap();
        let stored = Permission { id: 23, name, terms, created_ms: 0, created_by: 1 };
        let changed = Terms::parse(&json!({"path": "/x", "method": "PUT"}), &stored).unwrap();
        assert_eq!((changed.path.as_str(), changed.method.as_str()), ("/x", "PUT"));
        assert!(changed.denies());
        assert!(Terms::parse(&good(), &stored).is_ok(), "the same name");
        for (body, message) in [
            (with("name", json!("p2")), "permission name can't be changed"),
            (with("name", json!(1)), "permission name can't be changed"),
            (json!({"method": "GET"}), "Missing permission Path"),
            (json!(["x"]), "Missing permission Path"),
        ] {
            assert_eq!(Terms::parse(&body, &stored).unwrap_err(), message);
        }
    }

    #[test]
    fn filters_name_what_there_may_be() {
        let parse = |key: &'static str, value: &'static str| {
            PermissionFilter::parse(|asked| if asked == key { value.to_owned() } else { String::new() })
        };
        assert_eq!(parse("permission", "x").unwrap_err(), "Invalid filter. Permission can't be x");
        assert_eq!(parse("type", "x").unwrap_err(), "Invalid filter. Permission type can't be x");
        assert_eq!(parse("permission", "notApplicable").unwrap().effect, "notApplicable");
        assert_eq!(parse("path", "/device").unwrap().path, "/device");
    }
}
