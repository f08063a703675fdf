//! dojot's topics (dojot-connectors.md 3.2, 3.6, 3.7): `t:d/attrs` up, `t:d/config` down.
//!
//! Topics are compared as whole texts with the ones that the device owns, never as patterns: a wildcard, another
//! tenant's name or a `$share` prefix is simply a different text.

use super::{Event, Inbox, Intent, Message};
use crate::domain::identity::Identity;

pub(super) fn publish(own: &Identity, topic: &str) -> Option<Intent> {
    let (_, rest) = of_device(own, topic)?;
    (rest == "/attrs").then_some(Intent::Attributes)
}

pub(super) fn subscribe(own: &Identity, filter: &str) -> Option<Inbox> {
    let (inbox, rest) = of_device(own, filter)?;
    // `#` includes its parent level, and everything below the own `config` is the device's own.
    matches!(rest, "/config" | "/config/#").then_some(inbox)
}

pub(super) fn deliver<'a>(own: &Identity, inbox: Inbox, event: Event<'a>) -> Message<'a> {
    let Identity { tenant, device } = own;
    let topic = match inbox {
        Inbox::ColonConfig => format!("{tenant}:{device}/config"),
        Inbox::SlashConfig => format!("/{tenant}/{device}/config"),
    };
    match event {
        Event::Configure { attrs } => Message { topic, payload: attrs },
    }
}

/// What follows the device's own prefix, and which of the two prefixes it was.
fn of_device<'a>(own: &Identity, topic: &'a str) -> Option<(Inbox, &'a str)> {
    let (inbox, topic, separator) = match topic.strip_prefix('/') {
        Some(rest) => (Inbox::SlashConfig, rest, '/'),
        None => (Inbox::ColonConfig, topic, ':'),
    };
    let rest = topic.strip_prefix(own.tenant.as_str())?.strip_prefix(separator)?;
    let rest = rest.strip_prefix(own.device.as_str())?;
    rest.starts_with('/').then_some((inbox, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::UserName;

    fn own() -> Identity {
        UserName::parse("admin:a1b2c3").unwrap().identity
    }

    #[test]
    fn a_device_publishes_its_own_attributes_only() {
        for topic in ["admin:a1b2c3/attrs", "/admin/a1b2c3/attrs"] {
            assert_eq!(publish(&own(), topic), Some(Intent::Attributes), "{topic}");
        }
        for topic in [
            "",
            "/",
            "attrs",
            "admin:a1b2c3",
            "admin:a1b2c3/",
            "admin:a1b2c3/attrs/",
            "admin:a1b2c3/attrs/x",
            "admin:a1b2c3/config",
            "admin:a1b2c3/+",
            "admin:a1b2c3/#",
            "admin:a1b2c34/attrs",
            "admin:other/attrs",
            "other:a1b2c3/attrs",
            "admin2:a1b2c3/attrs",
            "Admin:a1b2c3/attrs",
            "admin/a1b2c3/attrs",
            "/admin:a1b2c3/attrs",
            "//admin/a1b2c3/attrs",
            "$SYS/broker",
            "$share/g/admin:a1b2c3/attrs",
        ] {
            assert_eq!(publish(&own(), topic), None, "{topic}");
        }
    }

    #[test]
    fn a_device_hears_its_own_actuations_only() {
        for (filter, inbox) in [
            ("admin:a1b2c3/config", Inbox::ColonConfig),
            ("admin:a1b2c3/config/#", Inbox::ColonConfig),
            ("/admin/a1b2c3/config", Inbox::SlashConfig),
            ("/admin/a1b2c3/config/#", Inbox::SlashConfig),
        ] {
            assert_eq!(subscribe(&own(), filter), Some(inbox), "{filter}");
        }
        for filter in [
            "",
            "#",
            "+",
            "+/#",
            "/#",
            "+/config",
            "/+/+/config",
            "/admin/+/config",
            "admin:a1b2c3/+",
            "admin:a1b2c3/#",
            "admin:a1b2c3/attrs",
            "admin:a1b2c3/config/+",
            "admin:a1b2c3/config#",
            "admin:a1b2c3/config/#/x",
            "admin:+/config",
            "admin:other/config",
            "other:a1b2c3/config",
            "$share/g/admin:a1b2c3/config",
            "$share/g/#",
            "$queue/admin:a1b2c3/config",
            "$SYS/#",
        ] {
            assert_eq!(subscribe(&own(), filter), None, "{filter}");
        }
    }

    #[test]
    fn an_actuation_is_told_under_the_name_that_was_subscribed() {
        let event = Event::Configure { attrs: r#"{"led":"on"}"# };
        let delivered = |inbox| deliver(&own(), inbox, event);
        let expected = |topic: &str| Message { topic: topic.to_owned(), payload: r#"{"led":"on"}"# };
        assert_eq!(delivered(Inbox::ColonConfig), expected("admin:a1b2c3/config"));
        assert_eq!(delivered(Inbox::SlashConfig), expected("/admin/a1b2c3/config"));
    }
}
