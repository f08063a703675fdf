//! Users: what may be written into their fields (dojot-api.md 2.2), and who may see whom.

use std::sync::LazyLock;

use common::wire::Tenant;
use regex::Regex;
use serde_json::{Map, Value};

use super::fields::{at_most, fields, text};

/// A user as it is stored, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) name: String,
    pub(crate) tenant: Tenant,
    pub(crate) email: String,
    pub(crate) profile: String,
    pub(crate) created_ms: i64,
    pub(crate) created_by: i64,
}

/// How a path names a user, a group or a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Id(i64),
    Name(String),
}

impl Reference {
    /// What reads as an integer is always an identifier. `None` when nothing can have this name: PostgreSQL does not even
    /// take it as a question.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = || (!text.contains('\0')).then(|| Self::Name(text.to_owned()));
        text.parse().map(Self::Id).ok().or_else(name)
    }
}

/// Whose users a caller sees and manages. Others are not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    AllTenants,
    Only(Tenant),
}

impl Scope {
    pub(crate) fn includes(&self, tenant: &Tenant) -> bool {
        match self {
            Self::AllTenants => true,
            Self::Only(own) => own == tenant,
        }
    }

    /// The one tenant, or an empty text for all: the form in which queries take it.
    pub(crate) fn filter(&self) -> &str {
        match self {
            Self::AllTenants => "",
            Self::Only(tenant) => tenant.as_str(),
        }
    }
}

/// The fields of a user that may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) tenant: Tenant,
    pub(crate) email: String,
    pub(crate) name: String,
}

/// A user to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewUser {
    pub(crate) username: String,
    pub(crate) details: Details,
    /// The profile as the token shall carry it.
    pub(crate) profile: String,
    /// Groups to join, by name or identifier, as they were sent.
    pub(crate) groups: Vec<Value>,
}

const USERNAME_BEGIN: &str = "Invalid username. Usernames should start with a letter and only lowercase, \
                              alphanumeric and underscores are allowed";
const USERNAME: &str = "Invalid username, only alphanumeric and underscores allowed";
const EMAIL: &str = "Invalid e-mail address";

/// Longest list of groups in `profile`.
const MAX_GROUPS: usize = 50;

/// RFC 5322's atom characters: dojot's rule, relaxed by upper case and the signs it forgets (dojot-api.md 9.2).
static EMAIL_RULE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+$").ok());

impl NewUser {
    /// Checks the body of `POST /user`, in the order of the contract.
    pub(crate) fn parse(body: &Value) -> Result<Self, String> {
        let fields = fields(body);
        let username = username(fields)?;
        let details = Details::of_user(fields, &username)?;
        let (profile, groups) = profile(fields)?;
        Ok(Self { username, details, profile, groups })
    }
}

impl Details {
    /// Checks the body of `PUT /user/{user}`; the user name is the stored one.
    pub(crate) fn parse(body: &Value, username: &str) -> Result<Self, String> {
        Self::of_user(fields(body), username)
    }

    fn of_user(fields: &Map<String, Value>, username: &str) -> Result<Self, String> {
        let service = text(fields, "service", "Missing service", "Invalid service")?;
        at_most(30, &service, "Service too long")?;
        let tenant =
            Tenant::parse(&service).map_err(|error| format!("Invalid service: it must be {}", error.rule))?;
        if !username.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err(USERNAME.to_owned());
        }
        let email = text(fields, "email", "Missing email", EMAIL)?;
        at_most(254, &email, "E-mail too long")?;
        if !EMAIL_RULE.as_ref().is_some_and(|rule| rule.is_match(&email)) {
            return Err(EMAIL.to_owned());
        }
        let name = text(fields, "name", "Missing user's name (full name)", "Invalid name")?;
        at_most(90, &name, "Name too long")?;
        Ok(Self { tenant, email, name })
    }
}

fn username(fields: &Map<String, Value>) -> Result<String, String> {
    let username = text(fields, "username", "Missing username", USERNAME_BEGIN)?;
    at_most(40, &username, "Username too long")?;
    let mut bytes = username.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let second = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if first && second { Ok(username) } else { Err(USERNAME_BEGIN.to_owned()) }
}

/// The text for the token and the groups. A list gives its first name to the token: dojot stores the whole list in
/// a form that nobody can read (dojot-api.md 9.2).
fn profile(fields: &Map<String, Value>) -> Result<(String, Vec<Value>), String> {
    let groups = match fields.get("profile") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
    };
    if groups.len() > MAX_GROUPS {
        return Err("Too many profiles".to_owned());
    }
    let mut names = Vec::with_capacity(groups.len());
    for group in &groups {
        let name = group_name(group).ok_or("Invalid profile")?;
        at_most(30, &name, "Profile name too long")?;
        names.push(name);
    }
    match names.into_iter().find(|name| !name.is_empty()) {
        Some(first) => Ok((first, groups)),
        None => Err("Missing profile".to_owned()),
    }
}

/// A group as a body names it: by name, or by identifier as a text or a number.
pub(crate) fn group_name(group: &Value) -> Option<String> {
    match group {
        Value::String(name) if !name.contains('\0') => Some(name.clone()),
        Value::Number(id) => id.as_i64().map(|id| id.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(key: &str, value: Value) -> Value {
        let mut body = json!({"username": "joao", "service": "tenant1", "email": "joao@example.com",
                              "name": "Joao", "profile": "user"});
        if value.is_null() {
            body.as_object_mut().unwrap().remove(key);
        } else {
            body[key] = value;
        }
        body
    }

    #[test]
    fn rows_of_the_contract() {
        let long = |length| Value::from("a".repeat(length));
        let cases = [
            ("username", Value::Null, "Missing username"),
            ("username", json!(""), "Missing username"),
            ("username", long(41), "Username too long"),
            ("username", json!("a"), USERNAME_BEGIN),
            ("username", json!("Joao"), USERNAME_BEGIN),
            ("username", json!("1a"), USERNAME_BEGIN),
            ("username", json!("_a"), USERNAME_BEGIN),
            ("username", json!(17), USERNAME_BEGIN),
            ("username", json!("joao silva"), USERNAME),
            ("username", json!("joAo"), USERNAME),
            ("username", json!("joao\n"), USERNAME),
            ("username", json!("joão"), USERNAME),
            ("service", Value::Null, "Missing service"),
            ("service", long(31), "Service too long"),
            ("email", Value::Null, "Missing email"),
            ("email", json!(format!("{}@example.com", "a".repeat(250))), "E-mail too long"),
            ("email", json!("joao"), EMAIL),
            ("email", json!("joao@example"), EMAIL),
            ("email", json!("@example.com"), EMAIL),
            ("email", json!("jo ao@example.com"), EMAIL),
            ("email", json!("joao@example.com\n"), EMAIL),
            ("email", json!("a@b@example.com"), EMAIL),
            ("email", json!(["joao@example.com"]), EMAIL),
            ("name", Value::Null, "Missing user's name (full name)"),
            ("name", long(91), "Name too long"),
            ("name", json!("a\0b"), "Invalid name"),
            ("profile", Value::Null, "Missing profile"),
            ("profile", json!(""), "Missing profile"),
            ("profile", json!([]), "Missing profile"),
            ("profile", long(31), "Profile name too long"),
            ("profile", json!({"a": 1}), "Invalid profile"),
            ("profile", json!(["user", "a\0"]), "Invalid profile"),
        ];
        for (key, value, expected) in cases {
            let refused = NewUser::parse(&with(key, value.clone())).unwrap_err();
            assert_eq!(refused, expected, "{key} {value}");
        }
        for service in ["T-1 x!", "Tenant", "1t", "dojot-management", "a.b", "_x", "tenant\n"] {
            let refused = NewUser::parse(&with("service", json!(service))).unwrap_err();
            assert!(refused.starts_with("Invalid service: it must be a lower-case letter"), "{refused}");
        }
        for body in [json!([]), json!(["x"]), json!("x"), json!(1)] {
            assert_eq!(NewUser::parse(&body).unwrap_err(), "Missing username");
            assert_eq!(Details::parse(&body, "joao").unwrap_err(), "Missing service");
        }
    }

    #[test]
    fn what_is_accepted() {
        let good = [
            ("username", json!("ab")),
            ("username", json!("a".repeat(40))),
            ("username", json!("a_0")),
            ("service", json!("a".repeat(30))),
            ("email", json!("Joao.O'Neil+x@Example.co.uk")),
            ("name", json!("João da Silva")),
            ("name", json!("ã".repeat(90))),
            ("profile", json!(2)),
            ("profile", json!(["admin", 2, "nope"])),
        ];
        for (key, value) in good {
            assert!(NewUser::parse(&with(key, value.clone())).is_ok(), "{key} {value}");
        }
        let listed = NewUser::parse(&with("profile", json!(["ops", 2]))).unwrap();
        assert_eq!((listed.profile.as_str(), listed.groups), ("ops", vec![json!("ops"), json!(2)]));
    }

    #[test]
    fn an_integer_is_an_identifier() {
        assert_eq!(Reference::parse("12"), Some(Reference::Id(12)));
        assert_eq!(Reference::parse("joao"), Some(Reference::Name("joao".to_owned())));
        assert_eq!(Reference::parse("1x"), Some(Reference::Name("1x".to_owned())));
        assert_eq!(Reference::parse("a\0"), None);
    }
}
