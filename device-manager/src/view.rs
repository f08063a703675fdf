//! Templates and devices as the API and the events show them (dojot-api.md 3.1): sorted keys, absent values left out.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use common::clock::date_of;
use serde::Serialize;

use crate::domain::{
    attribute::{Attr, Metadata},
    device::{Device, Templates},
    template::Template,
};

/// Which lists of attributes a template shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum AttrFormat {
    #[default]
    Both,
    Split,
    Single,
}

#[derive(Serialize)]
pub(crate) struct TemplateView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    attrs: Option<Vec<AttrView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_attrs: Option<Vec<AttrView<'a>>>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_attrs: Option<Vec<AttrView<'a>>>,
    id: i64,
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DeviceView<'a> {
    attrs: BTreeMap<String, Vec<AttrView<'a>>>,
    created: String,
    pub(crate) id: &'a str,
    label: &'a str,
    templates: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
}

#[derive(Serialize)]
struct AttrView<'a> {
    created: String,
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_static_overridden: Option<bool>,
    label: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<MetadataView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    static_value: Option<&'a str>,
    template_id: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
    value_type: &'a str,
}

/// Nothing is left out here, unlike everywhere else.
#[derive(Serialize)]
struct MetadataView<'a> {
    created: String,
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_static_overridden: Option<bool>,
    label: &'a str,
    static_value: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    updated: Option<String>,
    value_type: &'a str,
}

impl<'a> TemplateView<'a> {
    pub(crate) fn new(template: &'a Template, format: AttrFormat) -> Self {
        let list = |wanted: &dyn Fn(&Attr) -> bool| {
            template.attrs.iter().filter(|attr| wanted(attr)).map(|attr| AttrView::new(attr, None)).collect()
        };
        let split = format != AttrFormat::Single;
        Self {
            attrs: (format != AttrFormat::Split).then(|| list(&|_| true)),
            config_attrs: split.then(|| list(&|attr| !attr.is_data())),
            created: written(template.created_ms),
            data_attrs: split.then(|| list(&Attr::is_data)),
            id: template.id,
            label: &template.label,
            updated: template.updated_ms.map(written),
        }
    }
}

impl<'a> From<&'a Template> for TemplateView<'a> {
    fn from(template: &'a Template) -> Self {
        Self::new(template, AttrFormat::Both)
    }
}

impl<'a> DeviceView<'a> {
    pub(crate) fn new(device: &'a Device, templates: &'a Templates) -> Self {
        let own = device.template_ids.iter().filter_map(|id| templates.get(id));
        let attrs = own.map(|template| {
            let attrs = template.attrs.iter().map(|attr| AttrView::new(attr, Some(&device.overrides)));
            (template.id.to_string(), attrs.collect())
        });
        Self {
            attrs: attrs.collect(),
            created: written(device.created_ms),
            id: &device.id,
            label: &device.label,
            templates: &device.template_ids,
            updated: device.updated_ms.map(written),
        }
    }
}

type Overrides = BTreeMap<i64, String>;

impl<'a> AttrView<'a> {
    fn new(attr: &'a Attr, overrides: Option<&'a Overrides>) -> Self {
        let own = overrides.and_then(|overrides| overrides.get(&attr.id));
        let static_value = own.or(attr.static_value.as_ref()).map(String::as_str);
        let metadata = attr.metadata.iter().map(|item| MetadataView::new(item, overrides));
        Self {
            created: written(attr.created_ms),
            id: attr.id,
            is_static_overridden: (overrides.is_some() && static_value.is_some()).then_some(own.is_some()),
            label: &attr.label,
            metadata: metadata.collect(),
            static_value,
            template_id: attr.template_id.to_string(),
            kind: &attr.kind,
            updated: attr.updated_ms.map(written),
            value_type: &attr.value_type,
        }
    }
}

impl<'a> MetadataView<'a> {
    fn new(item: &'a Metadata, overrides: Option<&'a Overrides>) -> Self {
        let own = overrides.and_then(|overrides| overrides.get(&item.id));
        Self {
            created: written(item.created_ms),
            id: item.id,
            is_static_overridden: overrides.is_some().then_some(own.is_some()),
            label: &item.label,
            static_value: own.or(item.static_value.as_ref()).map(String::as_str),
            kind: &item.kind,
            updated: item.updated_ms.map(written),
            value_type: &item.value_type,
        }
    }
}

/// A time as `2026-11-20T09:30:02.457000+00:00`.
fn written(ms: i64) -> String {
    date_of(ms).to_rfc3339_opts(SecondsFormat::Micros, false)
}
