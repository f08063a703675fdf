//! Devices: instances of templates with values of their own.

use std::collections::BTreeMap;

use rand::Rng;
use serde_json::{Map, Value};

use super::{
    Invalid,
    attribute::Attr,
    fields::check_label,
    input::{DeviceInput, OverrideInput, integer_id},
    template::Template,
};

/// Templates by identifier.
pub(crate) type Templates = BTreeMap<i64, Template>;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Identifier, unique in the tenant.
    pub(crate) id: String,
    /// Name; need not be unique.
    pub(crate) label: String,
    /// Creation time, milliseconds since the epoch.
    pub(crate) created_ms: i64,
    /// Time of the last change.
    pub(crate) updated_ms: Option<i64>,
    /// What it is made of, in ascending order.
    pub(crate) template_ids: Vec<i64>,
    /// Static values that differ from the templates', by identifier of attribute or metadata item.
    pub(crate) overrides: BTreeMap<i64, String>,
}

impl Device {
    /// All attributes, of all its templates.
    pub(crate) fn attrs<'a>(&self, templates: &'a Templates) -> impl Iterator<Item = &'a Attr> {
        let own: Vec<&Template> = self.template_ids.iter().filter_map(|id| templates.get(id)).collect();
        own.into_iter().flat_map(|template| &template.attrs)
    }

    /// The requested attributes that the device cannot be asked to change, in the order of the request.
    pub(crate) fn not_configurable(
        &self,
        templates: &Templates,
        requested: &Map<String, Value>,
    ) -> Vec<String> {
        let is_actuator =
            |label: &str| self.attrs(templates).any(|attr| attr.label == label && attr.is_actuator());
        requested.keys().filter(|label| !is_actuator(label)).cloned().collect()
    }
}

/// The first of the templates that cannot be on one device with those before it.
pub(crate) fn colliding_template(ids: &[i64], templates: &Templates) -> Option<i64> {
    let mut names = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    ids.iter().copied().find(|id| {
        let attrs = templates.get(id).map(|template| template.attrs.as_slice()).unwrap_or_default();
        !seen.insert(*id) || !attrs.iter().all(|attr| names.insert(attr.name()))
    })
}

/// The values of a device that differ from its templates'.
pub(crate) fn overrides(
    sent: &[OverrideInput],
    templates: &Templates,
) -> Result<BTreeMap<i64, String>, Invalid> {
    let mut found = BTreeMap::new();
    for attr in sent {
        let template = integer_id(&attr.template_id).and_then(|id| templates.get(&id)).ok_or_else(|| {
            Invalid::text(format!("Unknown template {} in attr list", shown(&attr.template_id)))
        })?;
        let unknown = || Invalid::text(format!("Unknown attribute {} in override list", shown(&attr.id)));
        let id = integer_id(&attr.id).ok_or_else(unknown)?;
        let stored = template.attrs.iter().find(|stored| stored.id == id).ok_or_else(unknown)?;
        if let Some(value) = &attr.static_value {
            found.insert(id, value.clone());
        }
        for (id, value) in &attr.metadata {
            let item = integer_id(id).ok_or_else(|| {
                Invalid::text(format!("Unknown metadata attribute {} in override list", shown(id)))
            })?;
            if !stored.metadata.iter().any(|known| known.id == item) {
                return Err(unknown());
            }
            if let Some(value) = value {
                found.insert(item, value.clone());
            }
        }
    }
    Ok(found)
}

/// A value in an error text, in the words of the original.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "None".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().take(80).collect()
}

/// The identifier that a client wants for its device; `None` to generate one.
///
/// One with a dot comes from old dashboards, which made up their own and were ignored (dojot-api.md 3.3).
pub(crate) fn wanted_id(input: &DeviceInput) -> Result<Option<String>, Invalid> {
    const RULE: &str = "Device ID must be 2-6 characters and must be hexadecimal (0-9,a-f,A-F).";
    match &input.id {
        None => Ok(None),
        Some(Value::String(id)) if id.contains('.') => Ok(None),
        Some(Value::String(id))
            if (2..=6).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            Ok(Some(id.clone()))
        }
        Some(_) => Err(Invalid::list(RULE)),
    }
}

/// A new identifier: a random 24-bit number in 5 or 6 hex digits. May be taken already.
pub(crate) fn random_id() -> String {
    format!("{:05x}", rand::rng().random_range(0..1_u32 << 24))
}

/// The labels of `count` devices: `label_07` among 12, the label itself for one.
pub(crate) fn labels(label: &str, count: i64) -> Result<Vec<String>, Invalid> {
    if count == 1 {
        return Ok(vec![label.to_owned()]);
    }
    let width = count.to_string().len();
    let labels: Vec<String> = (0..count).map(|index| format!("{label}_{index:0width$}")).collect();
    labels.last().map_or(Ok(()), |longest| check_label(longest))?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Ids, input::TemplateInput};

    /// Template 1: `temp` (1) with metadata `unit` (2), `fan` (3). Template 2: `fan` (4).
    fn templates() -> Templates {
        let unit = json!({ "label": "unit", "type": "meta", "value_type": "string" });
        let temp = json!({ "label": "temp", "type": "dynamic", "value_type": "float", "metadata": [unit] });
        let fan = json!({ "label": "fan", "type": "actuator", "value_type": "float" });
        let mut ids = Ids { last_template: 0, last_attr: 0 };
        [json!([temp, fan]), json!([fan])]
            .into_iter()
            .map(|attrs| {
                let input = TemplateInput::parse(&json!({ "label": "T", "attrs": attrs })).unwrap();
                let template = Template::new(input, 0, &mut ids);
                (template.id, template)
            })
            .collect()
    }

    fn device(template_ids: &[i64]) -> Device {
        Device {
            id: "a1b2c3".to_owned(),
            label: "d".to_owned(),
            created_ms: 0,
            updated_ms: None,
            template_ids: template_ids.to_vec(),
            overrides: BTreeMap::new(),
        }
    }

    #[test]
    fn templates_that_collide_are_found() {
        let all = templates();
        for (ids, expected) in
            [(&[][..], None), (&[1], None), (&[1, 2], Some(2)), (&[2, 1], Some(1)), (&[1, 1], Some(1))]
        {
            assert_eq!(colliding_template(ids, &all), expected, "{ids:?}");
        }
    }

    #[test]
    fn overrides_name_what_is_there() {
        let resolve = |attrs: Value| {
            let input = DeviceInput::parse(&json!({ "label": "d", "attrs": attrs })).unwrap();
            overrides(&input.overrides, &templates())
        };
        let attr = |id: Value, template: Value, value: Value, item: Value| {
            json!([{ "label": "temp", "id": id, "template_id": template, "static_value": value,
                     "metadata": [{ "id": item, "static_value": "K" }] }])
        };
        let good = resolve(attr(json!(1), json!("1"), json!("x"), json!("2")));
        assert_eq!(good, Ok(BTreeMap::from([(1, "x".to_owned()), (2, "K".to_owned())])));
        let only_metadata = resolve(attr(json!("1"), json!(1), json!(null), json!(2)));
        assert_eq!(only_metadata, Ok(BTreeMap::from([(2, "K".to_owned())])));
        for (attrs, expected) in [
            (attr(json!(999), json!(1), json!("x"), json!(2)), "Unknown attribute 999 in override list"),
            (attr(json!(null), json!(1), json!("x"), json!(2)), "Unknown attribute None in override list"),
            // Of the other template.
            (attr(json!(4), json!(1), json!("x"), json!(2)), "Unknown attribute 4 in override list"),
            (attr(json!(1), json!(null), json!("x"), json!(2)), "Unknown template None in attr list"),
            (attr(json!(1), json!(7), json!("x"), json!(2)), "Unknown template 7 in attr list"),
            (attr(json!(1), json!(1), json!("x"), json!(99)), "Unknown attribute 1 in override list"),
            (
                attr(json!(1), json!(1), json!("x"), json!("zz")),
                "Unknown metadata attribute zz in override list",
            ),
        ] {
            assert_eq!(resolve(attrs), Err(Invalid::text(expected)));
        }
    }

    #[test]
    fn wanted_identifiers_follow_the_rule() {
        let wanted =
            |id: Value| wanted_id(&DeviceInput::parse(&json!({ "label": "d", "id": id })).unwrap()).ok();
        let some = |id: &str| Some(Some(id.to_owned()));
        for (id, expected) in [
            (json!(null), Some(None)),
            (json!("ab"), some("ab")),
            (json!("ABCdef"), some("ABCdef")),
            (json!("9f3c21aa.4b1d"), Some(None)),
            (json!("a"), None),
            (json!("abcdef0"), None),
            (json!("xyz"), None),
            (json!(""), None),
            (json!(123), None),
        ] {
            assert_eq!(wanted(id.clone()), expected, "{id}");
        }
    }

    #[test]
    fn generated_identifiers_are_hex() {
        for _ in 0..1000 {
            let id = random_id();
            let is_hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!((5..=6).contains(&id.len()) && is_hex, "{id}");
        }
    }

    #[test]
    fn labels_are_padded_to_the_digits_of_the_count() {
        for (count, first, last) in
            [(1, "d", "d"), (3, "d_0", "d_2"), (10, "d_00", "d_09"), (12, "d_00", "d_11")]
        {
            let labels = labels("d", count).unwrap();
            assert_eq!(labels.len(), usize::try_from(count).unwrap());
            assert_eq!((labels[0].as_str(), labels[labels.len() - 1].as_str()), (first, last), "{count}");
        }
        assert!(labels(&"x".repeat(127), 2).is_err());
    }

    #[test]
    fn only_actuators_can_be_configured() {
        let requested = json!({ "temp": 1, "fan": 2, "nothing": 3 });
        let refused = device(&[1]).not_configurable(&templates(), requested.as_object().unwrap());
        assert_eq!(refused, ["temp", "nothing"]);
        let fan = json!({ "fan": 2 });
        assert!(device(&[2]).not_configurable(&templates(), fan.as_object().unwrap()).is_empty());
        assert_eq!(device(&[]).not_configurable(&templates(), fan.as_object().unwrap()), ["fan"]);
    }
}
