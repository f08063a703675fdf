//! The publishes of a connection that are on the log and whose acknowledgement the client may have missed.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

/// Identity of a publish that may be sent again: equal for equal client id, packet id and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin([u8; 16]);

impl Origin {
    /// The origin of a publish.
    pub(crate) fn new(client_id: &str, packet_id: u16, payload: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // The length keeps a client id that ends in digits apart from the packet id.
        hash.update((client_id.len() as u64).to_be_bytes());
        hash.update(client_id);
        hash.update(packet_id.to_be_bytes());
        hash.update(payload);
        let digest: [u8; 32] = hash.finalize().into();
        let mut origin = [0; 16];
        origin.copy_from_slice(&digest[..16]);
        Self(origin)
    }

    /// Reads the header of a record.
    pub(crate) fn of_header(header: &[u8]) -> Option<Self> {
        Some(Self(header.try_into().ok()?))
    }

    /// The value of the header.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Enough of it to tell the few publishes of one connection apart, at half the memory.
    pub(crate) fn short(self) -> u64 {
        let [high, _] = *self.0.as_chunks::<8>().0 else { return 0 };
        u64::from_be_bytes(high)
    }
}

/// How often something that is sent again was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Never: it is not known to be on the log.
    No,
    /// Once: this is it.
    Once,
    /// Several times: the client repeats packet ids with equal payloads (a tiny client whose beats all look the
    /// same), so finding one proves nothing about this one.
    Often,
}

impl Found {
    /// From a number of finds.
    pub(crate) fn times(count: usize) -> Self {
        match count {
            0 => Self::No,
            1 => Self::Once,
            _ => Self::Often,
        }
    }
}

/// The last publishes that reached the log, oldest first. Grows with use and never beyond its limit.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(u16, u64)>);

impl Recent {
    /// Twice the usual window of clients; what is older is looked for on the log.
    const LIMIT: usize = 128;

    /// Remembers a publish that is on the log.
    pub(crate) fn push(&mut self, packet_id: u16, short: u64) {
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((packet_id, short));
    }

    /// How often this very publish was remembered.
    pub(crate) fn find(&self, packet_id: u16, short: u64) -> Found {
        Found::times(self.0.iter().filter(|known| **known == (packet_id, short)).count())
    }

    /// Takes over what an older connection of the same client remembers, as older than its own.
    pub(crate) fn inherit(&mut self, mut older: Self) {
        older.0.extend(self.0.drain(..));
        let surplus = older.0.len().saturating_sub(Self::LIMIT);
        older.0.drain(..surplus);
        *self = older;
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_differ_in_each_of_their_parts() {
        let origin = Origin::new("client", 1, b"{}");
        assert_eq!(origin, Origin::new("client", 1, b"{}"));
        for other in [
            Origin::new("client2", 1, b"{}"),
            Origin::new("client", 2, b"{}"),
            Origin::new("client", 1, b"{ }"),
            Origin::new("clien", 1, b"t{}"),
        ] {
            assert_ne!(origin, other);
            assert_ne!(origin.short(), other.short());
        }
        assert_eq!(Origin::of_header(origin.as_bytes()), Some(origin));
        assert_eq!(Origin::of_header(b"short"), None);
    }

    #[test]
    fn a_publish_is_known_by_packet_id_and_payload() {
        let mut recent = Recent::default();
        recent.push(1, 10);
        recent.push(2, 20);
        assert_eq!(recent.find(1, 10), Found::Once);
        assert_eq!(recent.find(1, 20), Found::No);
        assert_eq!(recent.find(3, 10), Found::No);
        recent.push(1, 10);
        assert_eq!(recent.find(1, 10), Found::Often);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut recent = Recent::default();
        for id in 0..1000 {
            recent.push(id, 0);
        }
        assert_eq!(recent.0.len(), Recent::LIMIT);
        assert_eq!(recent.find(999, 0), Found::Once);
        assert_eq!(recent.find(0, 0), Found::No);
    }

    #[test]
    fn a_new_connection_takes_over_what_the_old_one_knew() {
        let (mut old, mut new) = (Recent::default(), Recent::default());
        (0..100).for_each(|id| old.push(id, 1));
        (100..200).for_each(|id| new.push(id, 1));
        new.inherit(old);
        assert_eq!(new.0.len(), Recent::LIMIT);
        assert_eq!(new.0.front(), Some(&(72, 1)));
        assert_eq!(new.0.back(), Some(&(199, 1)));
    }
}
