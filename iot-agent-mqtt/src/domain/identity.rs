//! Who is at the other end of a connection.

use common::wire::{DeviceId, Tenant};

/// A device of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) tenant: Tenant,
    pub(crate) device: DeviceId,
}

/// A user name as devices write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName {
    pub(crate) identity: Identity,
    /// Whether it was `tenant:device`, the only form that may come without a password.
    pub(crate) colon: bool,
}

impl UserName {
    /// Reads `tenant@device` (dojot's basic credentials) or `tenant:device` (dojot's tutorials).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        // Neither character may occur in a tenant or a device id: a second one makes the device id invalid.
        let at = name.find([':', '@'])?;
        let identity = Identity {
            tenant: Tenant::parse(&name[..at]).ok()?,
            device: DeviceId::parse(&name[at + 1..]).ok()?,
        };
        Some(Self { identity, colon: name.as_bytes()[at] == b':' })
    }

    /// The form under which credentials are known: `tenant@device`.
    pub(crate) fn normalised(&self) -> String {
        format!("{}@{}", self.identity.tenant, self.identity.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same_device() {
        for (name, colon) in [("admin@a1b2c3", false), ("admin:a1b2c3", true)] {
            let user = UserName::parse(name).unwrap();
            assert_eq!(user.normalised(), "admin@a1b2c3");
            assert_eq!(user.colon, colon, "{name}");
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for name in [
            "",
            "admin",
            ":",
            "@",
            "admin:",
            ":a1b2c3",
            "admin:a:b",
            "admin@a@b",
            "admin@a:b",
            "Admin:a1b2c3",
            "admin:+",
            "admin:#",
            "admin:a/b",
            "a/b:c",
            "dojot-management:a",
            "v2k-bridge",
            "admin:a1b2c3\0",
        ] {
            assert_eq!(UserName::parse(name), None, "{name:?}");
        }
    }
}
