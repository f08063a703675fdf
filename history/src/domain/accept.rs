//! Which form of an answer a client accepts.

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/json`.
    Json,
    /// `text/csv`.
    Csv,
}

/// The form for an `Accept` header: JSON for whoever accepts it, else CSV, else none.
pub(crate) fn form(accept: Option<&str>) -> Option<Form> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Some(Form::Json) };
    let accepted: Vec<String> = accept.split(',').filter_map(range).collect();
    let accepts = |ranges: &[&str]| accepted.iter().any(|range| ranges.contains(&range.as_str()));
    if accepts(&["*/*", "application/*", "application/json"]) {
        Some(Form::Json)
    } else if accepts(&["text/*", "text/csv"]) {
        Some(Form::Csv)
    } else {
        None
    }
}

/// A media range, unless its quality says "not this".
fn range(text: &str) -> Option<String> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next()?.to_ascii_lowercase();
    let is_refused = parts.any(|part| {
        part.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("q")
                && value.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0)
        })
    });
    (!is_refused).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_preferred() {
        for (accept, expected) in [
            (None, Some(Form::Json)),
            (Some(""), Some(Form::Json)),
            (Some("*/*"), Some(Form::Json)),
            (Some("application/json"), Some(Form::Json)),
            (Some("Application/JSON; charset=utf-8"), Some(Form::Json)),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Some(Form::Json)),
            (Some("text/csv, application/json;q=0.1"), Some(Form::Json)),
            (Some("text/csv"), Some(Form::Csv)),
            (Some("text/*"), Some(Form::Csv)),
            (Some("text/csv, */*;q=0"), Some(Form::Csv)),
            (Some("text/csv;q=0"), None),
            (Some("application/xml"), None),
            (Some("rubbish"), None),
        ] {
            assert_eq!(form(accept), expected, "{accept:?}");
        }
    }
}
