//! Attributes of templates and the metadata items of attributes.

use serde::{Deserialize, Serialize};

use super::{
    Ids,
    input::{AttrInput, MetadataInput},
};

/// Attributes of these types are what a device does; all others configure it (dojot-api.md 3.1).
const DATA_TYPES: [&str; 3] = ["static", "dynamic", "actuator"];
const ACTUATOR: &str = "actuator";

/// An attribute of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attr {
    /// Identifier, unique in the tenant.
    pub(crate) id: i64,
    /// The template it belongs to.
    pub(crate) template_id: i64,
    /// Name.
    pub(crate) label: String,
    /// `dynamic`, `static`, `actuator`, `meta` or any other word.
    pub(crate) kind: String,
    /// Type of its values; a free word.
    pub(crate) value_type: String,
    /// Value of all devices that do not override it.
    pub(crate) static_value: Option<String>,
    /// Facts about it.
    pub(crate) metadata: Vec<Metadata>,
    /// Creation time, milliseconds since the epoch.
    pub(crate) created_ms: i64,
    /// Time of the last change.
    pub(crate) updated_ms: Option<i64>,
}

/// A fact about an attribute. Serialised as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    /// Identifier, from the same sequence as those of attributes.
    pub(crate) id: i64,
    /// Name, unique in its attribute.
    pub(crate) label: String,
    /// A free word.
    pub(crate) kind: String,
    /// Type of its value; a free word.
    pub(crate) value_type: String,
    /// Value of all devices that do not override it.
    pub(crate) static_value: Option<String>,
    /// Creation time, milliseconds since the epoch.
    pub(crate) created_ms: i64,
    /// Time of the last change.
    pub(crate) updated_ms: Option<i64>,
}

impl Attr {
    /// A new attribute.
    pub(crate) fn new(input: AttrInput, template_id: i64, now_ms: i64, ids: &mut Ids) -> Self {
        let id = ids.attr();
        let metadata = input.metadata.unwrap_or_default();
        Self {
            id,
            template_id,
            label: input.label,
            kind: input.kind,
            value_type: input.value_type,
            static_value: input.static_value,
            metadata: metadata.into_iter().map(|item| Metadata::new(item, now_ms, ids)).collect(),
            created_ms: now_ms,
            updated_ms: None,
        }
    }

    /// The attribute after an update. Absent metadata stays, an empty list removes it (dojot-api.md 10.10).
    #[must_use]
    pub(crate) fn updated(&self, input: AttrInput, now_ms: i64, ids: &mut Ids) -> Self {
        let metadata = match input.metadata {
            Some(items) => updated_metadata(&self.metadata, items, now_ms, ids),
            None => self.metadata.clone(),
        };
        let mut updated = Self {
            label: input.label,
            kind: input.kind,
            value_type: input.value_type,
            static_value: input.static_value,
            metadata,
            ..self.clone()
        };
        if updated != *self {
            updated.updated_ms = Some(now_ms);
        }
        updated
    }

    /// What makes it unique in a template and on a device.
    pub(crate) fn name(&self) -> (&str, &str) {
        (&self.label, &self.kind)
    }

    /// Whether it is listed in `data_attrs` (else in `config_attrs`).
    pub(crate) fn is_data(&self) -> bool {
        DATA_TYPES.contains(&self.kind.as_str())
    }

    /// Whether devices can be asked to change it.
    pub(crate) fn is_actuator(&self) -> bool {
        self.kind == ACTUATOR
    }

    /// Its own identifier and those of its metadata: what overrides may name.
    pub(crate) fn all_ids(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::once(self.id).chain(self.metadata.iter().map(|item| item.id))
    }
}

impl Metadata {
    fn new(input: MetadataInput, now_ms: i64, ids: &mut Ids) -> Self {
        Self {
            id: ids.attr(),
            label: input.label,
            kind: input.kind,
            value_type: input.value_type,
            static_value: input.static_value,
            created_ms: now_ms,
            updated_ms: None,
        }
    }

    fn updated(&self, input: MetadataInput, now_ms: i64) -> Self {
        let mut updated = Self {
            label: input.label,
            kind: input.kind,
            value_type: input.value_type,
            static_value: input.static_value,
            ..self.clone()
        };
        if updated != *self {
            updated.updated_ms = Some(now_ms);
        }
        updated
    }
}

/// Matches what was sent to what is stored: by identifier first, then by name; each stored one at most once.
///
/// Gives, for every sent one, the index of its stored one.
pub(super) fn matches<S, I>(
    stored: &[S],
    sent: &[I],
    same_id: impl Fn(&S, &I) -> bool,
    same_name: impl Fn(&S, &I) -> bool,
) -> Vec<Option<usize>> {
    let mut taken = vec![false; stored.len()];
    let mut found = vec![None; sent.len()];
    for by_id in [true, false] {
        let same = |old: &S, new: &I| if by_id { same_id(old, new) } else { same_name(old, new) };
        for (item, place) in sent.iter().zip(&mut found).filter(|(_, place)| place.is_none()) {
            let free = stored.iter().enumerate().find(|(index, old)| !taken[*index] && same(old, item));
            if let Some((index, _)) = free {
                taken[index] = true;
                *place = Some(index);
            }
        }
    }
    found
}

fn updated_metadata(
    stored: &[Metadata],
    sent: Vec<MetadataInput>,
    now_ms: i64,
    ids: &mut Ids,
) -> Vec<Metadata> {
    let found = matches(
        stored,
        &sent,
        |old, new| Some(old.id) == new.id,
        |old, new| old.label == new.label && old.kind == new.kind,
    );
    let mut updated: Vec<Metadata> = sent
        .into_iter()
        .zip(found)
        .map(|(item, place)| match place {
            Some(index) => stored[index].updated(item, now_ms),
            None => Metadata::new(item, now_ms, ids),
        })
        .collect();
    updated.sort_by_key(|item| item.id);
    updated
}
