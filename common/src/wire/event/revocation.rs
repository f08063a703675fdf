//! A user's tokens or permissions changed, on `dojot-management.tatami.revocation`. Gateways drop what they cached.

use serde::{Deserialize, Serialize};

/// Tells which cached decisions no longer hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The user, or everybody when absent: a permission or a group changed, and all tokens stay good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<i64>,
    /// When it was decided, milliseconds since the epoch.
    pub timestamp: i64,
    /// Whether the tokens of the user are still good, and only what he may do has changed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub keeps_tokens: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_unless_it_is_said_that_they_do_not() {
        let ends = r#"{"user_id":2,"timestamp":1}"#;
        let read: Revocation = serde_json::from_str(ends).unwrap();
        assert_eq!(read, Revocation { user_id: Some(2), timestamp: 1, keeps_tokens: false });
        assert_eq!(serde_json::to_string(&read).unwrap(), ends);
        let keeps = r#"{"user_id":2,"timestamp":1,"keeps_tokens":true}"#;
        let read: Revocation = serde_json::from_str(keeps).unwrap();
        assert!(read.keeps_tokens);
        assert_eq!(serde_json::to_string(&read).unwrap(), keeps);
    }
}
