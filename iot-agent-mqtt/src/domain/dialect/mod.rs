//! What topics mean. A dialect is one file with pure functions; another one is another file and another arm here.

mod dojot;

use super::identity::Identity;

/// How a device names its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `t:d/attrs`, `t:d/config` and the older `/t/d/attrs`, `/t/d/config`.
    Dojot,
}

/// What a device wants with a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To report attributes of its own.
    Attributes,
}

/// What may be delivered to a subscription, and under which of the dialect's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbox {
    /// Actuations on `t:d/config`.
    ColonConfig,
    /// Actuations on `/t/d/config`.
    SlashConfig,
}

/// Something that happened to a device and that it may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Somebody asks it to change its actuators; the attributes are a JSON object.
    Configure { attrs: &'a str },
}

/// A message as it is delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) topic: String,
    pub(crate) payload: &'a str,
}

impl Dialect {
    /// What a publish on this topic means; `None` when the device has no business there.
    pub(crate) fn publish(self, own: &Identity, topic: &str) -> Option<Intent> {
        match self {
            Self::Dojot => dojot::publish(own, topic),
        }
    }

    /// What a subscription with this filter may receive; `None` when it reaches beyond the device's own topics.
    pub(crate) fn subscribe(self, own: &Identity, filter: &str) -> Option<Inbox> {
        match self {
            Self::Dojot => dojot::subscribe(own, filter),
        }
    }

    /// How an event is told to a device that has subscribed to `inbox`.
    pub(crate) fn deliver<'a>(self, own: &Identity, inbox: Inbox, event: Event<'a>) -> Message<'a> {
        match self {
            Self::Dojot => dojot::deliver(own, inbox, event),
        }
    }
}
