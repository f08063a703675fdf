//! The rules of templates and devices: values in, values out.

pub(crate) mod attribute;
pub(crate) mod credential;
pub(crate) mod device;
mod fields;
pub(crate) mod input;
pub(crate) mod listing;
pub(crate) mod template;

use serde_json::{Value, json};

/// Why what a client sent cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Invalid {
    /// Fields that break the schema: `{"errors":…,"message":…}` (dojot-api.md 0.3).
    Schema {
        /// What was being read, for example `failed to parse input`.
        message: &'static str,
        /// Texts by field.
        errors: Value,
    },
    /// Anything else: one text or a list of texts.
    Message(Value),
}

impl Invalid {
    /// One text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Message(Value::String(text.into()))
    }

    /// A list with one text, as the original writes some of its errors.
    pub(crate) fn list(text: &str) -> Self {
        Self::Message(json!([text]))
    }
}

/// Next identifiers of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    /// The last identifier given to a template.
    pub(crate) last_template: i64,
    /// The last identifier given to an attribute or a metadata item.
    pub(crate) last_attr: i64,
}

impl Ids {
    /// An identifier for a template.
    pub(crate) fn template(&mut self) -> i64 {
        self.last_template += 1;
        self.last_template
    }

    /// An identifier for an attribute or a metadata item.
    pub(crate) fn attr(&mut self) -> i64 {
        self.last_attr += 1;
        self.last_attr
    }
}
