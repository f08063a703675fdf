//! What crosses a service boundary: names, topics and messages. No I/O in here.

pub mod claims;
pub mod date;
pub mod device_id;
pub mod event;
pub mod graphql;
pub mod header;
pub mod subject;
pub mod tenant;
pub mod topic;

pub use claims::Claims;
pub use device_id::DeviceId;
pub use subject::Subject;
pub use tenant::Tenant;
pub use topic::Topic;

/// A name that does not follow the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What was being named, for example `tenant`.
    pub kind: &'static str,
    /// The refused text, shortened to what fits on a line of the log.
    pub value: String,
    /// The rule that it breaks, in words.
    pub rule: &'static str,
}

impl InvalidName {
    fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), rule }
    }
}
