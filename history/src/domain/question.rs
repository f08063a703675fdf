//! What a request asks for.

use common::{engine::history_store::Window, wire::date};

use crate::error::Error;

/// A question about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Names of attributes, in order, each once; empty for all.
    pub(crate) attrs: Vec<String>,
    /// Which samples of each.
    pub(crate) window: Window,
}

impl Question {
    /// Whether the answer is an array and not an object of arrays.
    pub(crate) fn is_about_one(&self) -> bool {
        self.attrs.len() == 1
    }

    /// Reads the parameters of a request; those that are not known are passed over, and of a repeated one (other than
    /// `attr`) the last counts.
    pub(crate) fn of(parameters: &[(String, String)], max_attrs: usize) -> Result<Self, Error> {
        let mut attrs: Vec<String> = Vec::new();
        let (mut first_n, mut last_n, mut h_limit) = (None, None, None);
        let mut window = Window::default();
        for (name, value) in parameters {
            match name.as_str() {
                "attr" => add_attrs(&mut attrs, value),
                "firstN" => first_n = number("firstN", value)?,
                "lastN" => last_n = number("lastN", value)?,
                "hLimit" => h_limit = number("hLimit", value)?,
                "dateFrom" => window.from_ms = time("dateFrom", value)?,
                "dateTo" => window.to_ms = time("dateTo", value)?,
                _ => {}
            }
        }
        if attrs.len() > max_attrs {
            return Err(Error::InvalidParameter { name: "attr", rule: "There are too many." });
        }
        window.oldest_first = first_n.is_some();
        window.limit = first_n.or(last_n).or(h_limit).filter(|limit| *limit > 0);
        Ok(Self { attrs, window })
    }
}

fn add_attrs(attrs: &mut Vec<String>, list: &str) {
    for name in list.split(',').filter(|name| !name.is_empty()) {
        if !attrs.iter().any(|other| other == name) {
            attrs.push(name.to_owned());
        }
    }
}

fn number(name: &'static str, value: &str) -> Result<Option<u64>, Error> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    match value.parse::<i64>().map(u64::try_from) {
        Ok(Ok(number)) => Ok(Some(number)),
        Ok(Err(_)) => Err(Error::InvalidParameter { name, rule: "Must not be negative." }),
        Err(_) => Err(Error::InvalidParameter { name, rule: "Must be integer." }),
    }
}

fn time(name: &'static str, value: &str) -> Result<Option<i64>, Error> {
    if value.trim().is_empty() {
        return Ok(None);
    }
    let time = date::parse_ms(value);
    time.map(Some).ok_or(Error::InvalidParameter { name, rule: "Must be an ISO 8601 date." })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parameters: &[(&str, &str)]) -> Result<Question, Error> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Question::of(&parameters.iter().map(owned).collect::<Vec<_>>(), 4)
    }

    #[test]
    fn attributes_are_listed_or_repeated() {
        for (parameters, expected) in [
            (&[][..], &[][..]),
            (&[("attr", "")][..], &[][..]),
            (&[("attr", "a")][..], &["a"][..]),
            (&[("attr", "b"), ("other", "x"), ("attr", "a")][..], &["b", "a"][..]),
            (&[("attr", "b,a"), ("attr", ",c,")][..], &["b", "a", "c"][..]),
            (&[("attr", "a,a"), ("attr", "a")][..], &["a"][..]),
        ] {
            assert_eq!(of(parameters).unwrap().attrs, expected, "{parameters:?}");
        }
        assert!(of(&[("attr", "a,b,c,d,e")]).is_err());
    }

    #[test]
    fn the_first_of_three_limits_counts() {
        let window = |oldest_first, limit| Window { oldest_first, limit, ..Window::default() };
        for (parameters, expected) in [
            (&[][..], window(false, None)),
            (&[("hLimit", "3")][..], window(false, Some(3))),
            (&[("hLimit", "3"), ("lastN", "2")][..], window(false, Some(2))),
            (&[("hLimit", "3"), ("lastN", "2"), ("firstN", "1")][..], window(true, Some(1))),
            (&[("lastN", "0")][..], window(false, None)),
            (&[("firstN", "0")][..], window(true, None)),
            (&[("lastN", "")][..], window(false, None)),
            (&[("lastN", "9223372036854775807")][..], window(false, Some(i64::MAX as u64))),
        ] {
            assert_eq!(of(parameters).unwrap().window, expected, "{parameters:?}");
        }
    }

    #[test]
    fn dates_bound_the_window() {
        let window = of(&[("dateFrom", "2018-06-05T18:00"), ("dateTo", "2018-06-05")]).unwrap().window;
        assert_eq!((window.from_ms, window.to_ms), (Some(1_528_221_600_000), Some(1_528_156_800_000)));
    }

    #[test]
    fn bad_parameters_are_named() {
        for (name, value, text) in [
            ("lastN", "abc", "The \"lastN\" parameter is invalid. Must be integer."),
            ("lastN", "1.5", "The \"lastN\" parameter is invalid. Must be integer."),
            ("firstN", "99999999999999999999", "The \"firstN\" parameter is invalid. Must be integer."),
            ("hLimit", "-1", "The \"hLimit\" parameter is invalid. Must not be negative."),
            ("dateFrom", "soon", "The \"dateFrom\" parameter is invalid. Must be an ISO 8601 date."),
            ("dateTo", "2018-02-30", "The \"dateTo\" parameter is invalid. Must be an ISO 8601 date."),
        ] {
            assert_eq!(of(&[(name, value)]).unwrap_err().to_string(), text);
        }
    }
}
