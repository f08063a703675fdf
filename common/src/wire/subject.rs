//! What a message is about.

use std::{borrow::Cow, fmt};

use super::InvalidName;

/// The part of a topic after the tenant, for example `device-data`: 1 to 200 of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Cow<'static, str>);

impl Subject {
    /// Readings of devices (dojot-connectors.md 0.3).
    pub const DEVICE_DATA: Self = Self(Cow::Borrowed("device-data"));
    /// Life cycle and actuation of devices (dojot-api.md 3.6).
    pub const DEVICE: Self = Self(Cow::Borrowed("dojot.device-manager.device"));
    /// Notifications of flows (dojot-api.md 4.3).
    pub const NOTIFICATIONS: Self = Self(Cow::Borrowed("dojot.notifications"));
    /// Owners of certificates (dojot-connectors.md 2.9).
    pub const CERTIFICATES: Self = Self(Cow::Borrowed("dojot.x509-identity-mgmt.certificates"));
    /// User names and passwords of devices (dojot-connectors.md 4.4).
    pub const BASIC_CREDENTIALS: Self = Self(Cow::Borrowed("dojot.device-manager.basic-credentials"));
    /// Tenants that come and go (dojot-api.md 2.8); only of the management tenant.
    pub const TENANCY: Self = Self(Cow::Borrowed("dojot.tenancy"));
    /// Users whose tokens or permissions changed; only of the management tenant.
    pub const REVOCATION: Self = Self(Cow::Borrowed("tatami.revocation"));
    /// Administrative changes; only of the management tenant.
    pub const AUDIT: Self = Self(Cow::Borrowed("tatami.audit"));
    /// Records that nobody could read, set aside per tenant.
    pub const DEAD_LETTER: Self = Self(Cow::Borrowed("tatami.dead-letter"));

    /// What every tenant may have a topic of, from its first reader or writer on: what the platform writes, and what
    /// dojot's services write (dojot-api.md 4.2, dojot-connectors.md 0.3).
    const COMMON: [Self; 10] = [
        Self::DEVICE_DATA,
        Self::DEVICE,
        Self::NOTIFICATIONS,
        Self::CERTIFICATES,
        Self::BASIC_CREDENTIALS,
        Self::DEAD_LETTER,
        Self(Cow::Borrowed("dojot.device-manager.device.actuation")),
        Self(Cow::Borrowed("dojot.x509-identity-mgmt.trusted-cas")),
        Self(Cow::Borrowed("dojot.ftp")),
        Self(Cow::Borrowed("service-status")),
    ];

    /// Reads a subject.
    pub fn parse(subject: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=200).contains(&subject.len()) && subject.bytes().all(allowed) {
            Ok(Self(Cow::Owned(subject.to_owned())))
        } else {
            Err(InvalidName::new("subject", subject, "1 to 200 letters, digits, dots, dashes or underscores"))
        }
    }

    /// Whether every tenant may have a topic of it.
    pub fn is_common(&self) -> bool {
        Self::COMMON.contains(self)
    }

    /// Whether it is one of the platform's own, and not one that somebody made up.
    pub fn is_known(&self) -> bool {
        self.is_common() || [Self::TENANCY, Self::REVOCATION, Self::AUDIT].contains(self)
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_is_not_known() {
        for (subject, is_common, is_known) in [
            ("device-data", true, true),
            ("dojot.ftp", true, true),
            ("dojot.tenancy", false, true),
            ("tatami.revocation", false, true),
            ("tatami.audit", false, true),
            ("device-data2", false, false),
            ("Device-Data", false, false),
        ] {
            let subject = Subject::parse(subject).unwrap();
            assert_eq!((subject.is_common(), subject.is_known()), (is_common, is_known), "{subject}");
        }
    }
}
