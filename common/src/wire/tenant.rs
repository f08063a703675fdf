//! The isolation boundary.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// Name of a tenant: `^[a-z][a-z0-9_]*$`, at most 30 characters (dojot-api.md 9.2).
///
/// dojot's wire calls it `service`. The management tenant `dojot-management`, which owns the tenancy topic, is
/// the only name with a dash and is never the tenant of a user.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Longest allowed name, in characters.
    pub const MAX_LEN: usize = 30;
    const MANAGEMENT: &'static str = "dojot-management";

    /// Reads the name of a tenant that users and devices may belong to.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let mut bytes = name.bytes();
        let starts_well = bytes.next().is_some_and(|first| first.is_ascii_lowercase());
        let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if starts_well && goes_on_well && name.len() <= Self::MAX_LEN {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName::new(
                "tenant",
                name,
                "a lower-case letter, then lower-case letters, digits or underscores, 30 characters at most",
            ))
        }
    }

    /// The platform's own tenant, which carries tenancy and audit topics.
    pub fn management() -> Self {
        Self(Self::MANAGEMENT.into())
    }

    /// Whether this is the platform's own tenant.
    pub fn is_management(&self) -> bool {
        &*self.0 == Self::MANAGEMENT
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.0)
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        if name == Self::MANAGEMENT { Ok(Self::management()) } else { Self::parse(&name) }
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["admin", "a", "t1", "my_tenant", &"a".repeat(30)] {
            assert!(Tenant::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "_a",
            "Admin",
            "te-nant",
            "a.b",
            "a b",
            "a:b",
            "a/b",
            "a#",
            "ä",
            "dojot-management",
            &"a".repeat(31),
        ] {
            assert!(Tenant::parse(bad).is_err(), "{bad}");
        }
    }
}
