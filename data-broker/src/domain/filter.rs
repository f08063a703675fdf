//! Which notifications a socket wants (dojot-api.md 4.3, event `filter`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Conditions on the fields of a notification; all must hold. The default lets everything pass.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Filter {
    fields: BTreeMap<String, Condition>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Condition {
    operation: Operation,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
enum Operation {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    Different,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

impl Filter {
    /// Longest accepted filter, in bytes.
    pub(crate) const MAX_LEN: usize = 4096;

    /// Reads the JSON text that a client sends; `None` when it is not a filter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_LEN { None } else { serde_json::from_str(text).ok() }
    }

    /// Whether a notification passes. Fields that it does not have are not looked at.
    pub(crate) fn passes(&self, notification: &Value) -> bool {
        self.fields.iter().all(|(name, condition)| {
            let field = if name == "subject" {
                notification.get("subject")
            } else {
                notification.get("metaAttrsFilter").and_then(|attrs| attrs.get(name))
            };
            field.is_none_or(|field| condition.holds(field))
        })
    }
}

impl Condition {
    fn holds(&self, field: &Value) -> bool {
        let ordering = match (field.as_f64(), self.value.as_f64()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => match (field.as_str(), self.value.as_str()) {
                (Some(left), Some(right)) => Some(left.cmp(right)),
                _ => None,
            },
        };
        match self.operation {
            Operation::Equal => *field == self.value || ordering.is_some_and(std::cmp::Ordering::is_eq),
            Operation::Different => *field != self.value && !ordering.is_some_and(std::cmp::Ordering::is_eq),
            Operation::Less => ordering.is_some_and(std::cmp::Ordering::is_lt),
            Operation::Greater => ordering.is_some_and(std::cmp::Ordering::is_gt),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_checked_as_the_contract_says() {
        let notification =
            json!({"subject": "user_notification", "metaAttrsFilter": {"level": 3, "on": true}});
        for (filter, passes) in [
            (r#"{"fields":{}}"#, true),
            (r#"{"fields":{"subject":{"operation":"=","value":"user_notification"}}}"#, true),
            (r#"{"fields":{"subject":{"operation":"!=","value":"user_notification"}}}"#, false),
            (r#"{"fields":{"level":{"operation":">","value":2}}}"#, true),
            (r#"{"fields":{"level":{"operation":">","value":3}}}"#, false),
            (r#"{"fields":{"level":{"operation":"<","value":3.5}}}"#, true),
            (r#"{"fields":{"level":{"operation":"=","value":3.0}}}"#, true),
            (r#"{"fields":{"missing":{"operation":"=","value":1}}}"#, true),
            (r#"{"fields":{"on":{"operation":"=","value":true}}}"#, true),
            (r#"{"fields":{"on":{"operation":"<","value":true}}}"#, false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().passes(&notification), passes, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", "1", "{}", r#"{"fields":{"a":{"operation":"~","value":1}}}"#, r#"{"fields":[]}"#] {
            assert_eq!(Filter::parse(text), None, "{text}");
        }
    }
}
