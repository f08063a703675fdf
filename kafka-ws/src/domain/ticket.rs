//! Tickets (dojot-connectors.md 1.1).

use std::fmt::{self, Write};

use common::{http::Caller, revocation::Holder, wire::Tenant};
use serde::{Deserialize, Serialize};

/// A single-use secret: 64 lower-case hex digits. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket(String);

impl Ticket {
    const LEN: usize = 64;

    /// A ticket that nobody can guess.
    pub(crate) fn random() -> Self {
        let secret: [u8; Self::LEN / 2] = rand::random();
        let mut text = String::with_capacity(Self::LEN);
        for byte in secret {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Reads a ticket; `None` for what cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_ticket =
            text.len() == Self::LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_ticket.then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// What a ticket stands for, as it is kept in the ticket store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Whose topics may be read.
    pub(crate) tenant: Tenant,
    /// Which of the tenants that have had this name.
    #[serde(default)]
    pub(crate) generation: i64,
    /// When the token of the user expires, seconds since the epoch.
    pub(crate) expires: i64,
    /// Who asked for the ticket, and when.
    #[serde(flatten)]
    pub(crate) holder: Holder,
}

impl Pass {
    /// The pass of a user.
    pub(crate) fn of(caller: &Caller, now_ms: i64) -> Self {
        Self {
            tenant: caller.tenant.clone(),
            generation: caller.generation,
            expires: caller.expires_s,
            holder: Holder { user_id: caller.user_id, issued_ms: now_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_read_back_and_differ() {
        let ticket = Ticket::random();
        assert_eq!(Ticket::parse(ticket.as_str()), Some(ticket.clone()));
        assert_ne!(Ticket::random(), ticket);
    }

    #[test]
    fn what_cannot_be_a_ticket_is_refused() {
        for bad in
            ["", "a", &"A".repeat(64), &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"ä".repeat(32)]
        {
            assert_eq!(Ticket::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn tickets_do_not_print_themselves() {
        let ticket = Ticket::random();
        assert!(!format!("{ticket:?}").contains(ticket.as_str()));
    }
}
