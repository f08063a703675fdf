//! Members of JSON objects, checked one by one, with dojot's words for what is wrong with them.

use serde_json::{Map, Value, json};

use super::Invalid;

pub(super) const MAX_LABEL: usize = 128;
pub(super) const MAX_TYPE: usize = 32;
const MAX_STATIC_VALUE: usize = 128;
/// Most attributes of a template, and most templates of a device: an event carries all of them.
pub(super) const MAX_ENTRIES: usize = 1000;

pub(super) const MISSING: &str = "Missing data for required field.";
pub(super) const NULL: &str = "Field may not be null.";

/// Reads the members of an object and collects what is wrong with them.
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) errors: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value, message: &'static str) -> Result<Self, Invalid> {
        let object = value.as_object().ok_or_else(|| Invalid::Schema {
            message,
            errors: json!({ "_schema": ["Invalid input type."] }),
        })?;
        Ok(Self { object, errors: Map::new() })
    }

    pub(super) fn fail(&mut self, name: &str, error: Value) {
        self.errors.insert(name.to_owned(), error);
    }

    /// A required text. What breaks the schema is collected; too long is an error at once.
    pub(super) fn text(&mut self, name: &str, max: usize) -> Result<String, Invalid> {
        let fault = match self.object.get(name) {
            Some(Value::String(text)) => {
                check_length(name, text, max)?;
                return Ok(text.clone());
            }
            None => MISSING,
            Some(Value::Null) => NULL,
            Some(_) => "Not a valid string.",
        };
        self.fail(name, json!([fault]));
        Ok(String::new())
    }

    /// Identifiers are hints here: what cannot be one is ignored.
    pub(super) fn id(&self) -> Option<i64> {
        self.object.get("id").and_then(super::input::integer_id)
    }

    pub(super) fn finish(&mut self, message: &'static str) -> Result<(), Invalid> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let mut errors = std::mem::take(&mut self.errors);
        errors.sort_keys();
        Err(Invalid::Schema { message, errors: Value::Object(errors) })
    }
}

/// Refuses texts that PostgreSQL cannot store.
pub(super) fn check_text(name: &str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') {
        return Err(Invalid::text(format!("{name} must not contain a null character")));
    }
    Ok(())
}

fn check_length(name: &str, text: &str, max: usize) -> Result<(), Invalid> {
    check_text(name, text)?;
    if text.chars().count() > max {
        return Err(Invalid::text(format!("{name} must have at most {max} characters")));
    }
    Ok(())
}

/// Refuses labels of devices that became too long by numbering.
pub(super) fn check_label(label: &str) -> Result<(), Invalid> {
    check_length("label", label, MAX_LABEL)
}

/// A member that has to be a list where it is there and not null.
pub(super) fn list<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Vec<Value>>, Invalid> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) if items.len() <= MAX_ENTRIES => Ok(Some(items)),
        Some(Value::Array(_)) => {
            Err(Invalid::text(format!("{name} must have at most {MAX_ENTRIES} entries")))
        }
        Some(_) => Err(Invalid::text(format!("{name} must be a list"))),
    }
}

/// Static values are texts; other values are written as the original's database did (dojot-api.md 3.1).
pub(super) fn static_value(object: &Map<String, Value>) -> Result<Option<String>, Invalid> {
    let text = match object.get("static_value") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => array_text(items)?,
        Some(Value::Object(_)) => return Err(Invalid::text("static_value must not be an object")),
        Some(scalar) => scalar.to_string(),
    };
    check_length("static_value", &text, MAX_STATIC_VALUE)?;
    Ok(Some(text))
}

/// A list as PostgreSQL writes arrays: `{1,2}`.
fn array_text(items: &[Value]) -> Result<String, Invalid> {
    let items: Result<Vec<String>, Invalid> = items
        .iter()
        .map(|item| match item {
            Value::Null => Ok("NULL".to_owned()),
            Value::Bool(flag) => Ok(if *flag { "t" } else { "f" }.to_owned()),
            Value::Number(number) => Ok(number.to_string()),
            Value::String(text) => Ok(array_item(text)),
            Value::Array(items) => array_text(items),
            Value::Object(_) => Err(Invalid::text("static_value must not contain an object")),
        })
        .collect();
    Ok(format!("{{{}}}", items?.join(",")))
}

fn array_item(text: &str) -> String {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
    if text.is_empty() || text.contains(special) || text.eq_ignore_ascii_case("null") {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

pub(super) fn has_duplicates<T: std::hash::Hash + Eq>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = std::collections::HashSet::new();
    !items.all(|item| seen.insert(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_values_become_texts() {
        for (value, expected) in [
            (json!(null), None),
            (json!("x"), Some("x")),
            (json!(""), Some("")),
            (json!(42), Some("42")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!([1]), Some("{1}")),
            (json!([true, null, "a b", "c", ["d\"e"]]), Some(r#"{t,NULL,"a b",c,{"d\"e"}}"#)),
        ] {
            let object = json!({ "static_value": value });
            let read = static_value(object.as_object().unwrap());
            assert_eq!(read, Ok(expected.map(str::to_owned)), "{value}");
        }
    }
}
