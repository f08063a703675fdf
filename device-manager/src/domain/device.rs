//! Devices: instances of templates with values of their own.

use std::collections::BTreeMap;

use rand::Rng;
use serde_json::{Map, Value};

use super::{
    Invalid,
    attribute::Attr,
    input::{DeviceInput, OverrideInput, check_label, integer_id},
    template::Template,
};

/// Templates by identifier.
pub type Templates = BTreeMap<i64, Template>;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Identifier, unique in the tenant.
    pub id: String,
    /// Name; need not be unique.
    pub label: String,
    /// Creation time, milliseconds since the epoch.
    pub created_ms: i64,
    /// Time of the last change.
    pub updated_ms: Option<i64>,
    /// What it is made of, in ascending order.
    pub template_ids: Vec<i64>,
    /// Static values that differ from the templates', by identifier of attribute or metadata item.
    pub overrides: BTreeMap<i64, String>,
}

impl Device {
    /// All attributes, of all its templates.
    pub fn attrs<'a>(&self, templates: &'a Templates) -> impl Iterator<Item = &'a Attr> {
        let own: Vec<&Template> = self.template_ids.iter().filter_map(|id| templates.get(id)).collect();
        own.into_iter().flat_map(|template| &template.attrs)
    }

    /// The requested attributes that the device cannot be asked to change, in the order of the request.
    pub fn not_configurable(&self, templates: &Templates, requested: &Map<String, Value>) -> Vec<String> {
        let is_actuator =
            |label: &str| self.attrs(templates).any(|attr| attr.label == label && attr.is_actuator());
        requested.keys().filter(|label| !is_actuator(label)).cloned().collect()
    }
}

/// The first of the templates that cannot be on one device with those before it.
pub fn colliding_template(ids: &[i64], templates: &Templates) -> Option<i64> {
    let mut names = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    ids.iter().copied().find(|id| {
        let attrs = templates.get(id).map(|template| template.attrs.as_slice()).unwrap_or_default();
        !seen.insert(*id) || !attrs.iter().all(|attr| names.insert(attr.name()))
    })
}

/// The values of a device that differ from its templates'.
pub fn overrides(sent: &[OverrideInput], templates: &Templates) -> Result<BTreeMap<i64, String>, Invalid> {
    let mut found = BTreeMap::new();
    for attr in sent {
        let template =
            integer_id(&attr.template_id).and_then(|id| templates.get(&id)).ok_or_else(|| {
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
pub fn wanted_id(input: &DeviceInput) -> Result<Option<String>, Invalid> {
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
pub fn random_id() -> String {
    format!("{:05x}", rand::rng().random_range(0..1_u32 << 24))
}

/// The labels of `count` devices: `label_07` among 12, the label itself for one.
pub fn labels(label: &str, count: i64) -> Result<Vec<String>, Invalid> {
    if count == 1 {
        return Ok(vec![label.to_owned()]);
    }
    let width = count.to_string().len();
    let labels: Vec<String> = (0..count).map(|index| format!("{label}_{index:0width$}")).collect();
    labels.last().map_or(Ok(()), |longest| check_label(longest))?;
    Ok(labels)
}
