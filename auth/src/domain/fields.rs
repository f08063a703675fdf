//! The members of JSON bodies, checked one by one because the contract has an order.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The members of a body; a body that is no object has none.
pub(crate) fn fields(body: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    body.as_object().unwrap_or(&NONE)
}

/// A text that must be there and not empty.
pub(crate) fn text(
    fields: &Map<String, Value>,
    key: &str,
    missing: &str,
    invalid: &str,
) -> Result<String, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Err(missing.to_owned()),
        Some(Value::String(text)) if text.is_empty() => Err(missing.to_owned()),
        // PostgreSQL takes every text but this one.
        Some(Value::String(text)) if !text.contains('\0') => Ok(text.clone()),
        Some(_) => Err(invalid.to_owned()),
    }
}

/// Refuses a text that is too long.
pub(crate) fn at_most(characters: usize, text: &str, message: &str) -> Result<(), String> {
    if text.chars().count() > characters { Err(message.to_owned()) } else { Ok(()) }
}
