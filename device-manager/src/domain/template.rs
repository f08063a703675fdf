//! Templates: reusable sets of attributes.

use super::{
    Ids,
    attribute::{Attr, matches},
    input::TemplateInput,
};

/// A template with its attributes, ordered by identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// Identifier, unique in the tenant.
    pub(crate) id: i64,
    /// Name; need not be unique.
    pub(crate) label: String,
    /// Creation time, milliseconds since the epoch.
    pub(crate) created_ms: i64,
    /// Time of the last change.
    pub(crate) updated_ms: Option<i64>,
    /// What its devices have.
    pub(crate) attrs: Vec<Attr>,
}

/// A template after an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Updated {
    /// The template.
    pub(crate) template: Template,
    /// Identifiers of attributes and metadata items that are gone; overrides of them go too.
    pub(crate) removed: Vec<i64>,
    /// Identifiers of attributes whose name is new, so that it may collide with another template of a device.
    pub(crate) renamed: Vec<i64>,
}

impl Template {
    /// A new template.
    pub(crate) fn new(input: TemplateInput, now_ms: i64, ids: &mut Ids) -> Self {
        let id = ids.template();
        let attrs = input.attrs.into_iter().map(|attr| Attr::new(attr, id, now_ms, ids)).collect();
        Self { id, label: input.label, created_ms: now_ms, updated_ms: None, attrs }
    }

    /// The template after an update. An attribute is recognised by its identifier, else by label and type, so
    /// that renaming keeps what devices override (dojot-api.md 9.3).
    pub(crate) fn updated(&self, input: TemplateInput, now_ms: i64, ids: &mut Ids) -> Updated {
        let found = matches(
            &self.attrs,
            &input.attrs,
            |old, new| Some(old.id) == new.id,
            |old, new| old.label == new.label && old.kind == new.kind,
        );
        let mut attrs: Vec<Attr> = input
            .attrs
            .into_iter()
            .zip(found)
            .map(|(attr, place)| match place {
                Some(index) => self.attrs[index].updated(attr, now_ms, ids),
                None => Attr::new(attr, self.id, now_ms, ids),
            })
            .collect();
        attrs.sort_by_key(|attr| attr.id);
        let known = |attr: &&Attr| !self.attrs.iter().any(|old| old.name() == attr.name());
        let renamed = attrs.iter().filter(known).map(|attr| attr.id).collect();
        let kept: Vec<i64> = attrs.iter().flat_map(Attr::all_ids).collect();
        let removed = self.attrs.iter().flat_map(Attr::all_ids).filter(|id| !kept.contains(id)).collect();
        let mut template = Self { label: input.label, attrs, ..self.clone() };
        if template != *self {
            template.updated_ms = Some(now_ms);
        }
        Updated { template, removed, renamed }
    }

    /// Whether an attribute of this template has label and type of an attribute of `other`.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        self.id == other.id
            || self.attrs.iter().any(|attr| other.attrs.iter().any(|theirs| theirs.name() == attr.name()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ids() -> Ids {
        Ids { last_template: 0, last_attr: 0 }
    }

    fn input(attrs: &Value) -> TemplateInput {
        TemplateInput::parse(&json!({ "label": "T", "attrs": attrs })).unwrap()
    }

    /// Attributes 1 (with metadata 2) and 3.
    fn stored(ids: &mut Ids) -> Template {
        let unit = json!({ "label": "unit", "type": "meta", "value_type": "string", "static_value": "C" });
        let attrs = json!([
            { "label": "temp", "type": "dynamic", "value_type": "float", "metadata": [unit] },
            { "label": "fan", "type": "actuator", "value_type": "float" },
        ]);
        Template::new(input(&attrs), 10, ids)
    }

    fn update(attrs: &Value) -> (Template, Updated) {
        let mut ids = ids();
        let stored = stored(&mut ids);
        let updated = stored.updated(input(attrs), 20, &mut ids);
        (stored, updated)
    }

    fn names(updated: &Updated) -> Vec<(i64, &str)> {
        updated.template.attrs.iter().map(|attr| (attr.id, attr.label.as_str())).collect()
    }

    #[test]
    fn what_is_sent_back_unchanged_changes_nothing() {
        let (stored, updated) = update(&json!([
            { "id": 1, "label": "temp", "type": "dynamic", "value_type": "float" },
            { "label": "fan", "type": "actuator", "value_type": "float", "created": "x", "template_id": "1" },
        ]));
        assert_eq!(updated, Updated { template: stored, removed: vec![], renamed: vec![] });
    }

    #[test]
    fn attributes_are_recognised_by_id_and_then_by_name() {
        let attr = |id: Option<i64>, label: &str| json!({ "id": id, "label": label, "type": "dynamic", "value_type": "float" });
        for (attrs, expected, removed, renamed) in [
            (json!([attr(None, "temp")]), vec![(1, "temp")], vec![3], vec![]),
            (json!([attr(Some(1), "heat")]), vec![(1, "heat")], vec![3], vec![1]),
            (json!([attr(Some(99), "temp")]), vec![(1, "temp")], vec![3], vec![]),
            (json!([attr(None, "heat")]), vec![(4, "heat")], vec![1, 2, 3], vec![4]),
            // The identifier wins over the name.
            (
                json!([attr(None, "temp"), attr(Some(1), "heat")]),
                vec![(1, "heat"), (4, "temp")],
                vec![3],
                vec![1],
            ),
            // Another attribute's identifier with this one's name: the second is new.
            (json!([attr(Some(1), "x"), attr(Some(1), "y")]), vec![(1, "x"), (4, "y")], vec![3], vec![1, 4]),
            (json!([]), vec![], vec![1, 2, 3], vec![]),
        ] {
            let (_, updated) = update(&attrs);
            assert_eq!(names(&updated), expected, "{attrs}");
            assert_eq!((&updated.removed, &updated.renamed), (&removed, &renamed), "{attrs}");
            assert_eq!(updated.template.updated_ms, Some(20));
        }
    }

    #[test]
    fn values_are_overwritten_and_metadata_is_merged() {
        let attr = |metadata: Value| {
            let mut attr = json!({ "label": "temp", "type": "dynamic", "value_type": "integer" });
            if !metadata.is_null() {
                attr["metadata"] = metadata;
            }
            json!([attr])
        };
        let unit = json!({ "label": "unit", "type": "meta", "value_type": "string", "static_value": "K" });
        let range = json!({ "label": "range", "type": "meta", "value_type": "string" });
        for (metadata, expected) in [
            (Value::Null, vec![(2, "unit", Some("C"), None)]),
            (json!([]), vec![]),
            (json!([unit]), vec![(2, "unit", Some("K"), Some(20))]),
            (json!([range, unit]), vec![(2, "unit", Some("K"), Some(20)), (4, "range", None, None)]),
        ] {
            let (_, updated) = update(&attr(metadata.clone()));
            let attr = &updated.template.attrs[0];
            assert_eq!((attr.value_type.as_str(), attr.updated_ms), ("integer", Some(20)));
            let items: Vec<_> = attr
                .metadata
                .iter()
                .map(|item| (item.id, item.label.as_str(), item.static_value.as_deref(), item.updated_ms))
                .collect();
            assert_eq!(items, expected, "{metadata}");
        }
    }

    #[test]
    fn templates_collide_by_label_and_type() {
        let template = |id: i64, kind: &str| {
            let mut ids = Ids { last_template: id - 1, last_attr: 0 };
            Template::new(input(&json!([{ "label": "a", "type": kind, "value_type": "x" }])), 0, &mut ids)
        };
        assert!(template(1, "static").collides_with(&template(2, "static")));
        assert!(template(1, "static").collides_with(&template(1, "dynamic")));
        assert!(!template(1, "static").collides_with(&template(2, "dynamic")));
    }
}
