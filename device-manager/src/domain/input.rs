//! What clients send, checked and read (dojot-api.md 3.2, 3.3). Unknown members are ignored: dashboards send back
//! whole objects.

use serde_json::{Map, Value, json};

use super::{
    Invalid,
    fields::{Fields, MAX_ENTRIES, MAX_LABEL, MAX_TYPE, NULL, has_duplicates, list, static_value},
    listing::integer,
};

const INPUT: &str = "failed to parse input";
const ATTR: &str = "failed to parse attr";

/// A template as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateInput {
    /// Name.
    pub(crate) label: String,
    /// Attributes; no two have the same label and type.
    pub(crate) attrs: Vec<AttrInput>,
}

/// An attribute as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttrInput {
    /// Identifier of a stored attribute that this one is to replace.
    pub(crate) id: Option<i64>,
    /// Name.
    pub(crate) label: String,
    /// `type` on the wire.
    pub(crate) kind: String,
    /// Type of its values.
    pub(crate) value_type: String,
    /// Value of all devices.
    pub(crate) static_value: Option<String>,
    /// `None` when the member is absent, which is not the same as an empty list.
    pub(crate) metadata: Option<Vec<MetadataInput>>,
}

/// A metadata item as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetadataInput {
    /// Identifier of a stored item that this one is to replace.
    pub(crate) id: Option<i64>,
    /// Name.
    pub(crate) label: String,
    /// `type` on the wire.
    pub(crate) kind: String,
    /// Type of its value.
    pub(crate) value_type: String,
    /// Value of all devices.
    pub(crate) static_value: Option<String>,
}

/// A device as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceInput {
    /// The identifier that the client wants; unchecked.
    pub(crate) id: Option<Value>,
    /// Name.
    pub(crate) label: String,
    /// Templates, where the member is there.
    pub(crate) templates: Option<Vec<i64>>,
    /// Values that differ from the templates'.
    pub(crate) overrides: Vec<OverrideInput>,
}

/// Values of one attribute that differ from the template's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OverrideInput {
    /// Identifier of the attribute, as it was sent.
    pub(crate) id: Value,
    /// Its template, as it was sent.
    pub(crate) template_id: Value,
    /// The device's value.
    pub(crate) static_value: Option<String>,
    /// Metadata items by identifier, as it was sent, and their values.
    pub(crate) metadata: Vec<(Value, Option<String>)>,
}

impl TemplateInput {
    /// Reads the body of POST and PUT.
    pub(crate) fn parse(body: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(body, INPUT)?;
        let label = fields.text("label", MAX_LABEL)?;
        fields.finish(INPUT)?;
        let attrs = list(fields.object, "attrs")?.ok_or_else(|| Invalid::text("attrs is missing"))?;
        let attrs = attrs.iter().map(AttrInput::parse).collect::<Result<Vec<_>, _>>()?;
        if has_duplicates(attrs.iter().map(|attr| (&attr.label, &attr.kind))) {
            return Err(Invalid::text("Template attribute constraints are violated by the request"));
        }
        Ok(Self { label, attrs })
    }
}

impl AttrInput {
    fn parse(attr: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(attr, ATTR)?;
        let label = fields.text("label", MAX_LABEL)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_good = !label.is_empty() && label.bytes().all(allowed);
        if !is_good && !fields.errors.contains_key("label") {
            fields.fail("label", json!(["Labels must contain letters, numbers or dashes(-_)"]));
        }
        let kind = fields.text("type", MAX_TYPE)?;
        let value_type = fields.text("value_type", MAX_TYPE)?;
        let metadata = Self::metadata(&mut fields)?;
        fields.finish(ATTR)?;
        let static_value = static_value(fields.object)?;
        Ok(Self { id: fields.id(), label, kind, value_type, static_value, metadata })
    }

    /// Faults of metadata items are nested by their place (dojot-api.md 10.12).
    fn metadata(fields: &mut Fields<'_>) -> Result<Option<Vec<MetadataInput>>, Invalid> {
        let Some(items) = list(fields.object, "metadata")? else { return Ok(None) };
        let mut read = Vec::with_capacity(items.len());
        let mut errors = Map::new();
        for (place, item) in items.iter().enumerate() {
            match MetadataInput::parse(item) {
                Ok(item) => read.push(item),
                Err(Invalid::Schema { errors: own, .. }) => {
                    errors.insert(place.to_string(), own);
                }
                Err(other) => return Err(other),
            }
        }
        if !errors.is_empty() {
            fields.fail("metadata", Value::Object(errors));
        } else if has_duplicates(read.iter().map(|item| &item.label)) {
            fields.fail("metadata", json!(["a template can not have repeated attributes"]));
        }
        Ok(Some(read))
    }
}

impl MetadataInput {
    fn parse(item: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(item, ATTR)?;
        let label = fields.text("label", MAX_LABEL)?;
        let kind = fields.text("type", MAX_TYPE)?;
        let value_type = fields.text("value_type", MAX_TYPE)?;
        fields.finish(ATTR)?;
        Ok(Self { id: fields.id(), label, kind, value_type, static_value: static_value(fields.object)? })
    }
}

impl DeviceInput {
    /// Reads the body of POST and PUT.
    pub(crate) fn parse(body: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(body, INPUT)?;
        let label = fields.text("label", MAX_LABEL)?;
        let templates = match fields.object.get("templates") {
            None => None,
            Some(Value::Array(ids)) => Some(template_ids(ids)?),
            Some(other) => {
                let fault = if other.is_null() { NULL } else { "Invalid type." };
                fields.fail("templates", json!([fault]));
                None
            }
        };
        fields.finish(INPUT)?;
        let overrides = list(fields.object, "attrs")?.map(Vec::as_slice).unwrap_or_default();
        let labels = overrides.iter().map(|attr| attr.get("label").and_then(Value::as_str));
        let labels: Option<Vec<&str>> = labels.collect();
        let labels = labels.ok_or_else(|| Invalid::list("missing label attribute"))?;
        if has_duplicates(labels.into_iter()) {
            return Err(Invalid::list("a device can not have repeated attributes"));
        }
        let overrides = overrides.iter().map(OverrideInput::parse).collect::<Result<Vec<_>, _>>()?;
        let id = fields.object.get("id").filter(|id| !id.is_null()).cloned();
        Ok(Self { id, label, templates, overrides })
    }
}

impl OverrideInput {
    fn parse(attr: &Value) -> Result<Self, Invalid> {
        let Some(object) = attr.as_object() else {
            return Err(Invalid::text("attrs must be a list of objects"));
        };
        let Some(template_id) = object.get("template_id") else {
            return Err(Invalid::text("an attribute has no template_id"));
        };
        let metadata = list(object, "metadata")?.map(Vec::as_slice).unwrap_or_default().iter();
        let metadata = metadata.map(|item| {
            let item = item.as_object().ok_or_else(|| Invalid::text("metadata must be a list of objects"))?;
            Ok((item.get("id").cloned().unwrap_or_default(), static_value(item)?))
        });
        Ok(Self {
            id: object.get("id").cloned().unwrap_or_default(),
            template_id: template_id.clone(),
            static_value: static_value(object)?,
            metadata: metadata.collect::<Result<_, Invalid>>()?,
        })
    }
}

/// Reads an identifier that clients write as a number or as a text of digits.
pub(crate) fn integer_id(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.is_u64().then_some(i64::MAX)),
        Value::String(text) => integer(text),
        _ => None,
    }
}

fn template_ids(ids: &[Value]) -> Result<Vec<i64>, Invalid> {
    if ids.len() > MAX_ENTRIES {
        return Err(Invalid::text(format!("templates must have at most {MAX_ENTRIES} entries")));
    }
    let read = ids.iter().map(integer_id).collect::<Option<Vec<_>>>();
    read.ok_or_else(|| Invalid::text("templates must be a list of template ids"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fields::MISSING;

    fn schema(message: &'static str, errors: Value) -> Invalid {
        Invalid::Schema { message, errors }
    }

    #[test]
    fn templates_that_are_refused() {
        let attr = |attr: Value| json!({ "label": "t", "attrs": [attr] });
        let with =
            |item: Value| attr(json!({ "label": "a", "type": "b", "value_type": "c", "metadata": item }));
        let label = |text: &str| json!({ "label": [text] });
        let rule = "Labels must contain letters, numbers or dashes(-_)";
        let item = json!({ "label": "m", "type": "meta", "value_type": "string" });
        for (body, expected) in [
            (json!([]), schema(INPUT, json!({ "_schema": ["Invalid input type."] }))),
            (json!(7), schema(INPUT, json!({ "_schema": ["Invalid input type."] }))),
            (json!({ "attrs": [] }), schema(INPUT, label(MISSING))),
            (json!({ "label": null, "attrs": [] }), schema(INPUT, label(NULL))),
            (json!({ "label": 1, "attrs": [] }), schema(INPUT, label("Not a valid string."))),
            (json!({ "label": "t" }), Invalid::text("attrs is missing")),
            (json!({ "label": "t", "attrs": null }), Invalid::text("attrs is missing")),
            (json!({ "label": "t", "attrs": {} }), Invalid::text("attrs must be a list")),
            (
                json!({ "label": "t", "attrs": vec![json!({}); 1001] }),
                Invalid::text("attrs must have at most 1000 entries"),
            ),
            (
                json!({ "label": "x".repeat(129), "attrs": [] }),
                Invalid::text("label must have at most 128 characters"),
            ),
            (
                json!({ "label": "a\u{0}", "attrs": [] }),
                Invalid::text("label must not contain a null character"),
            ),
            (attr(json!("a")), schema(ATTR, json!({ "_schema": ["Invalid input type."] }))),
            (attr(json!({ "label": "a b", "type": "x", "value_type": "y" })), schema(ATTR, label(rule))),
            (attr(json!({ "label": "", "type": "x", "value_type": "y" })), schema(ATTR, label(rule))),
            (
                attr(json!({ "label": null, "type": "x" })),
                schema(ATTR, json!({ "label": [NULL], "value_type": [MISSING] })),
            ),
            (
                attr(json!({ "label": "a", "type": "x".repeat(33), "value_type": "y" })),
                Invalid::text("type must have at most 32 characters"),
            ),
            (
                attr(json!({ "label": "a", "type": "b", "value_type": "c", "static_value": {} })),
                Invalid::text("static_value must not be an object"),
            ),
            (with(json!("m")), Invalid::text("metadata must be a list")),
            (
                with(json!([{ "label": "m", "value_type": "string" }])),
                schema(ATTR, json!({ "metadata": { "0": { "type": [MISSING] } } })),
            ),
            (
                with(json!([item.clone(), item])),
                schema(ATTR, json!({ "metadata": ["a template can not have repeated attributes"] })),
            ),
        ] {
            assert_eq!(TemplateInput::parse(&body), Err(expected), "{body}");
        }
        let same = json!({ "label": "a", "type": "b", "value_type": "c" });
        let twice = TemplateInput::parse(&json!({ "label": "t", "attrs": [same.clone(), same] }));
        let text = "Template attribute constraints are violated by the request";
        assert_eq!(twice, Err(Invalid::text(text)));
    }

    #[test]
    fn devices_that_are_refused() {
        let with = |attrs: Value| json!({ "label": "d", "attrs": attrs });
        let attr = |label: &str| json!({ "label": label, "template_id": 1, "id": 2 });
        for (body, expected) in [
            (json!([]), schema(INPUT, json!({ "_schema": ["Invalid input type."] }))),
            (json!({ "label": 5 }), schema(INPUT, json!({ "label": ["Not a valid string."] }))),
            (json!({ "label": "d", "templates": null }), schema(INPUT, json!({ "templates": [NULL] }))),
            (
                json!({ "templates": "1" }),
                schema(INPUT, json!({ "label": [MISSING], "templates": ["Invalid type."] })),
            ),
            (
                json!({ "label": "d", "templates": [1.5] }),
                Invalid::text("templates must be a list of template ids"),
            ),
            (with(json!({})), Invalid::text("attrs must be a list")),
            (with(json!([1])), Invalid::list("missing label attribute")),
            (with(json!([{ "template_id": 1 }])), Invalid::list("missing label attribute")),
            (with(json!([attr("a"), attr("a")])), Invalid::list("a device can not have repeated attributes")),
            (with(json!([{ "label": "a" }])), Invalid::text("an attribute has no template_id")),
        ] {
            assert_eq!(DeviceInput::parse(&body), Err(expected), "{body}");
        }
        let ids = DeviceInput::parse(&json!({ "label": "d", "templates": [1, "2", u64::MAX] }));
        assert_eq!(ids.unwrap().templates, Some(vec![1, 2, i64::MAX]));
    }
}
