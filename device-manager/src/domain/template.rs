//! Templates: reusable sets of attributes.

use super::{
    Ids,
    attribute::{Attr, matches},
    input::TemplateInput,
};

/// A template with its attributes, ordered by identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Identifier, unique in the tenant.
    pub id: i64,
    /// Name; need not be unique.
    pub label: String,
    /// Creation time, milliseconds since the epoch.
    pub created_ms: i64,
    /// Time of the last change.
    pub updated_ms: Option<i64>,
    /// What its devices have.
    pub attrs: Vec<Attr>,
}

/// A template after an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The template.
    pub template: Template,
    /// Identifiers of attributes and metadata items that are gone; overrides of them go too.
    pub removed: Vec<i64>,
    /// Identifiers of attributes whose name is new, so that it may collide with another template of a device.
    pub renamed: Vec<i64>,
}

impl Template {
    /// A new template.
    pub fn new(input: TemplateInput, now_ms: i64, ids: &mut Ids) -> Self {
        let id = ids.template();
        let attrs = input.attrs.into_iter().map(|attr| Attr::new(attr, id, now_ms, ids)).collect();
        Self { id, label: input.label, created_ms: now_ms, updated_ms: None, attrs }
    }

    /// The template after an update. An attribute is recognised by its identifier, else by label and type, so
    /// that renaming keeps what devices override (dojot-api.md 9.3).
    pub fn updated(&self, input: TemplateInput, now_ms: i64, ids: &mut Ids) -> Updated {
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
    pub fn collides_with(&self, other: &Self) -> bool {
        self.id == other.id
            || self.attrs.iter().any(|attr| other.attrs.iter().any(|theirs| theirs.name() == attr.name()))
    }
}
