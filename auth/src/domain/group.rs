//! Groups: what may be written into them (dojot-api.md 2.4).

use serde_json::Value;

use super::fields::{at_most, fields, text};

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: i64,
    pub(crate) labels: Labels,
    pub(crate) created_ms: i64,
    pub(crate) created_by: i64,
}

/// What of a group may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
}

impl Labels {
    const LONGEST_DESCRIPTION: usize = 255;

    /// Checks the body of `POST /pap/group`.
    pub(crate) fn parse(body: &Value) -> Result<Self, String> {
        const INVALID: &str = "Invalid group name, only alphanumeric allowed";
        let fields = fields(body);
        let name = text(fields, "name", "Missing group name", INVALID)?;
        at_most(30, &name, "Group name too long")?;
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(INVALID.to_owned());
        }
        let description = match fields.get("description") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.contains('\0') => Some(text.clone()),
            Some(_) => return Err("Invalid group description".to_owned()),
        };
        let text = description.as_deref().unwrap_or_default();
        at_most(Self::LONGEST_DESCRIPTION, text, "Group description too long")?;
        Ok(Self { name, description })
    }

    /// Checks the body of `PUT /pap/group/{group}`: what it does not name stays.
    pub(crate) fn change(body: &Value, stored: &Self) -> Result<Self, String> {
        let mut whole = body.clone();
        if let Some(fields) = whole.as_object_mut() {
            fields.entry("name").or_insert_with(|| stored.name.clone().into());
            fields.entry("description").or_insert_with(|| stored.description.clone().into());
        }
        Self::parse(&whole)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_the_contract() {
        const INVALID: &str = "Invalid group name, only alphanumeric allowed";
        for (body, message) in [
            (json!({}), "Missing group name"),
            (json!(["x"]), "Missing group name"),
            (json!({"name": ""}), "Missing group name"),
            (json!({"name": null}), "Missing group name"),
            (json!({"name": 1}), INVALID),
            (json!({"name": "o ps"}), INVALID),
            (json!({"name": "ops\n"}), INVALID),
            (json!({"name": "öps"}), INVALID),
            (json!({"name": "a".repeat(31)}), "Group name too long"),
            (json!({"name": "ops", "description": "a".repeat(256)}), "Group description too long"),
            (json!({"name": "ops", "description": "a\0"}), "Invalid group description"),
            (json!({"name": "ops", "description": ["d"]}), "Invalid group description"),
        ] {
            assert_eq!(Labels::parse(&body).unwrap_err(), message, "{body}");
        }
        let labels = Labels::parse(&json!({"name": "Ops2"})).unwrap();
        assert_eq!(labels, Labels { name: "Ops2".to_owned(), description: None });
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let stored = Labels { name: "ops".to_owned(), description: Some("d".to_owned()) };
        let change = |body| Labels::change(&body, &stored);
        assert_eq!(change(json!({})).unwrap(), stored);
        assert_eq!(
            change(json!({"name": "dev"})).unwrap(),
            Labels { name: "dev".to_owned(), ..stored.clone() }
        );
        assert_eq!(change(json!({"description": null})).unwrap().description, None);
        assert_eq!(
            change(json!({"name": "d ev"})).unwrap_err(),
            "Invalid group name, only alphanumeric allowed"
        );
        assert_eq!(change(json!(["x"])).unwrap_err(), "Missing group name");
    }
}
