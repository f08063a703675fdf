//! Pages and filters of lists (dojot-api.md 3.4).

use serde::Serialize;

use super::{Invalid, fields::check_text};

/// The parameters of a query string, in order, repeated ones included.
pub(crate) type Parameters = [(String, String)];

/// Most `attr` and `attr_type` conditions of one request.
const MAX_CONDITIONS: usize = 20;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Number of the page, from 1.
    pub(crate) number: i64,
    /// Entries per page.
    pub(crate) size: i64,
}

/// What the entries of a list have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Part of the label.
    pub(crate) label: Option<String>,
    /// Label and static value of attributes; all must be there.
    pub(crate) attrs: Vec<(String, String)>,
    /// Value types of attributes; all must be there.
    pub(crate) attr_types: Vec<String>,
    /// A template that devices have.
    pub(crate) template: Option<i64>,
}

/// `pagination` of a list. `total` counts pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Pagination {
    has_next: bool,
    next_page: Option<i64>,
    page: i64,
    total: i64,
}

/// The first value of a parameter.
pub(crate) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Reads a whole number of any length; what does not fit becomes the nearest that does.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bound = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(bound))
}

/// Whether a flag such as `verbose` is set.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "true" | "True" | "1")
}

/// Whether only identifiers are wanted; `idsOnly` without a value means yes.
pub(crate) fn ids_only(parameters: &Parameters) -> bool {
    parameter(parameters, "idsOnly")
        .is_some_and(|value| value.is_empty() || value == "1" || value.eq_ignore_ascii_case("true"))
}

/// Whether the list is to be sorted by label; the only other order is that of identifiers.
pub(crate) fn by_label(parameters: &Parameters) -> bool {
    parameter(parameters, "sortBy") == Some("label")
}

impl Page {
    const DEFAULT_SIZE: i64 = 20;

    /// Reads `page_num` and `page_size`; larger pages than `max_size` are cut into more pages.
    pub(crate) fn read(parameters: &Parameters, max_size: i64) -> Result<Self, Invalid> {
        let read = |name: &str, default: i64| match parameter(parameters, name) {
            Some(text) => {
                integer(text.trim()).ok_or_else(|| Invalid::text(format!("{name} must be an integer")))
            }
            None => Ok(default),
        };
        let number = read("page_num", 1)?;
        let size = read("page_size", Self::DEFAULT_SIZE)?;
        if number < 1 {
            return Err(Invalid::text("Page numbers must be greater than 1"));
        }
        if size < 1 {
            return Err(Invalid::text("At least one entry per page is mandatory"));
        }
        Ok(Self { number, size: size.min(max_size) })
    }

    /// How many entries are before this page.
    pub(crate) fn offset(self) -> i64 {
        (self.number - 1).saturating_mul(self.size)
    }

    /// How many entries there are on all pages, if a page with so many of them tells.
    pub(crate) fn count_if_last(self, found: usize) -> Option<i64> {
        let found = found as i64;
        (found < self.size && (found > 0 || self.number == 1)).then(|| self.offset() + found)
    }

    /// What the client is told about a list with so many entries.
    pub(crate) fn of_entries(self, entries: i64) -> Pagination {
        let total = entries.max(0) / self.size + i64::from(entries.max(0) % self.size > 0);
        let has_next = self.number < total;
        Pagination { has_next, next_page: has_next.then(|| self.number + 1), page: self.number, total }
    }
}

impl Filter {
    /// Reads `label`, `attr`, `attr_type` and `template`.
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, Invalid> {
        let mut filter = Self::default();
        for (name, value) in parameters {
            check_text(name, value)?;
            match name.as_str() {
                "label" if !value.is_empty() => filter.label = Some(value.clone()),
                "attr" => {
                    let (label, wanted) = value
                        .split_once('=')
                        .ok_or_else(|| Invalid::text("attr must have the form <label>=<value>"))?;
                    filter.attrs.push((label.to_owned(), wanted.to_owned()));
                }
                "attr_type" => filter.attr_types.push(value.clone()),
                "template" => {
                    let id = integer(value).ok_or_else(|| Invalid::text("template must be an integer"))?;
                    filter.template = Some(id);
                }
                _ => {}
            }
        }
        if filter.attrs.len() + filter.attr_types.len() > MAX_CONDITIONS {
            return Err(Invalid::text(format!("at most {MAX_CONDITIONS} attr and attr_type conditions")));
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pages_are_counted() {
        let page = |number, size| Page { number, size };
        for (page, entries, total, next) in [
            (page(1, 20), 0, 0, None),
            (page(1, 2), 5, 3, Some(2)),
            (page(3, 2), 5, 3, None),
            (page(9, 2), 5, 3, None),
            (page(1, 5), 5, 1, None),
        ] {
            let expected = Pagination { has_next: next.is_some(), next_page: next, page: page.number, total };
            assert_eq!(page.of_entries(entries), expected, "{page:?} of {entries}");
        }
        assert_eq!(page(i64::MAX, 20).offset(), i64::MAX);
    }

    #[test]
    fn a_page_that_is_not_full_tells_the_number() {
        for (number, found, expected) in
            [(1, 0, Some(0)), (1, 3, Some(3)), (1, 5, None), (3, 1, Some(11)), (3, 0, None), (3, 5, None)]
        {
            assert_eq!(Page { number, size: 5 }.count_if_last(found), expected, "{found} on {number}");
        }
    }

    #[test]
    fn page_parameters_are_checked() {
        for (query, expected) in [
            (&[("page_num", "0")][..], "Page numbers must be greater than 1"),
            (&[("page_num", "-99999999999999999999")], "Page numbers must be greater than 1"),
            (&[("page_size", "0")], "At least one entry per page is mandatory"),
            (&[("page_size", "ten")], "page_size must be an integer"),
            (&[("page_num", "1.5")], "page_num must be an integer"),
        ] {
            assert_eq!(Page::read(&parameters(query), 100), Err(Invalid::text(expected)), "{query:?}");
        }
        let huge = parameters(&[("page_size", "999999"), ("page_num", "99999999999999999999")]);
        assert_eq!(Page::read(&huge, 100), Ok(Page { number: i64::MAX, size: 100 }));
    }

    #[test]
    fn filters_are_read() {
        let read = Filter::read(&parameters(&[
            ("attr", "serial=a=b"),
            ("attr", "model="),
            ("attr_type", "float"),
            ("limit", "x"),
        ]));
        let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
        let expected = Filter {
            attrs: vec![pair("serial", "a=b"), pair("model", "")],
            attr_types: vec!["float".to_owned()],
            ..Filter::default()
        };
        assert_eq!(read, Ok(expected));
        for bad in [("attr", "serial"), ("template", "x"), ("label", "a\0")] {
            assert!(Filter::read(&parameters(&[bad])).is_err(), "{bad:?}");
        }
        assert!(Filter::read(&parameters(&[("attr_type", "x"); 21])).is_err());
    }

    #[test]
    fn identifiers_only_may_be_asked_for_in_several_ways() {
        for (value, expected) in [("true", true), ("TRUE", true), ("1", true), ("", true), ("0", false)] {
            assert_eq!(ids_only(&parameters(&[("idsOnly", value)])), expected, "{value}");
        }
        assert!(!ids_only(&[]));
    }
}
