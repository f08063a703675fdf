//! From the platform to the client: subscriptions and the messages for them.

use super::{End, Session};
use crate::{metrics::refused, packet};

/// Messages with QoS 1 that wait for the client's acknowledgement.
pub(super) struct Outbound {
    waiting: Vec<u16>,
    next_id: u16,
    most: u16,
    max_packet: u32,
}

impl Outbound {
    /// Most that wait at a time, even if the client would take more.
    const MOST: u16 = 16;

    pub(super) fn new(receive_max: u16, max_packet: u32) -> Self {
        Self { waiting: Vec::new(), next_id: 1, most: receive_max.clamp(1, Self::MOST), max_packet }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < usize::from(self.most)
    }

    /// A packet id that no waiting message has.
    fn take_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = id.checked_add(1).unwrap_or(1);
            if !self.waiting.contains(&id) {
                self.waiting.push(id);
                return id;
            }
        }
    }

    /// The client has a message.
    pub(super) fn acknowledged(&mut self, id: u16) {
        self.waiting.retain(|waiting| *waiting != id);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

impl Session {
    /// Writes messages for the client, as many as it takes. Returns whether it stopped because much is written
    /// already.
    pub(super) fn take_outgoing(&mut self) -> bool {
        while self.out.len() < Self::MAX_OUT {
            let Some(message) = self.presence.link.next_outgoing(self.outbound.has_room()) else {
                return false;
            };
            let id = (message.qos > 0).then(|| self.outbound.take_id());
            let (version, max) = (self.version, self.outbound.max_packet);
            if packet::put_publish(&mut self.out, version, max, &message.topic, id, &message.payload) {
                self.presence.agent.metrics.deliveries.increment(1);
            } else {
                // Larger than the client takes: as if it had been delivered, says the standard.
                self.presence.agent.metrics.dropped.increment(1);
                if let Some(id) = id {
                    self.outbound.acknowledged(id);
                }
            }
        }
        true
    }

    /// One verdict for each filter.
    pub(super) fn subscribe(&mut self, id: u16, filters: &[(String, u8)]) -> Result<(), End> {
        let link = &self.presence.link;
        let verdicts: Vec<Option<u8>> = filters
            .iter()
            .map(|(filter, qos)| {
                let Some(inbox) = link.dialect.subscribe(&link.own, filter) else {
                    refused("filter");
                    return None;
                };
                let granted = (*qos).min(1);
                link.subscribe(filter, inbox, granted);
                Some(granted)
            })
            .collect();
        let max = self.outbound.max_packet;
        let written = packet::put_suback(&mut self.out, self.version, max, id, &verdicts);
        if written { Ok(()) } else { Err(End::AnswerTooLarge) }
    }

    pub(super) fn unsubscribe(&mut self, id: u16, filters: &[String]) -> Result<(), End> {
        let existed: Vec<bool> =
            filters.iter().map(|filter| self.presence.link.unsubscribe(filter)).collect();
        let max = self.outbound.max_packet;
        let written = packet::put_unsuback(&mut self.out, self.version, max, id, &existed);
        if written { Ok(()) } else { Err(End::AnswerTooLarge) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_are_never_used_twice_at_a_time() {
        let mut outbound = Outbound::new(u16::MAX, u32::MAX);
        outbound.next_id = u16::MAX;
        assert_eq!([outbound.take_id(), outbound.take_id()], [u16::MAX, 1]);
        outbound.next_id = u16::MAX;
        assert_eq!(outbound.take_id(), 2);
        outbound.acknowledged(1);
        outbound.next_id = 1;
        assert_eq!(outbound.take_id(), 1);
        assert!(outbound.has_room());
        (0..13).for_each(|_| _ = outbound.take_id());
        assert!(!outbound.has_room());
    }
}
