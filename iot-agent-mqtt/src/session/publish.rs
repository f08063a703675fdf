//! From the client to the log: the path of every message.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use common::{
    engine::event_log::{Delivery, DeliverySink, Headers, NewRecord},
    wire::{event::device_data, header},
};
use rmqtt_codec::types::QoS;
use tracing::warn;

use super::{End, Session};
use crate::{
    domain::{
        dialect::Intent,
        payload,
        recent::{Found, Origin},
    },
    link::{Close, Known, Link, Outcome, Slot},
    metrics::refused,
    packet::{self, Ack, Publish, Version, Will, reason},
    redelivery::Lookup,
};

/// A publish that is looked for on the log before it is produced.
pub(super) struct Search {
    reading: Reading,
    index: Pin<Box<dyn Future<Output = Option<Lookup>> + Send>>,
    found: Option<Lookup>,
}

/// A publish that has passed all checks.
struct Reading {
    payload: Bytes,
    timestamp_ms: i64,
    ack: Option<Ack>,
    id: u16,
    origin: Option<Origin>,
}

impl Search {
    /// Longest search. Then the publish is produced: losing it would be worse than storing it twice.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Ready when there is an index, or never will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.index.as_mut().poll(cx).map(|index| self.found = index)
    }
}

impl Session {
    /// Most QoS 2 publishes that a client may leave unfinished.
    const MOST_UNRELEASED: usize = 1024;

    pub(super) async fn publish(&mut self, publish: Box<Publish>) -> Result<(), End> {
        self.presence.agent.metrics.publishes.increment(1);
        let ack = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Ack::Acknowledged),
            QoS::ExactlyOnce => Some(Ack::Received),
        };
        let id = publish.packet_id.map_or(0, Into::into);
        if ack == Some(Ack::Received) && self.unreleased.contains(&id) {
            self.receive_again(id);
            return Ok(());
        }
        let link = &self.presence.link;
        match link.dialect.publish(&link.own, &publish.topic) {
            Some(Intent::Attributes) => {}
            None => return self.refuse_topic(ack, id),
        }
        let Ok(timestamp) = payload::inspect(&publish.payload) else {
            return self.refuse_payload(ack, id);
        };
        let reading = Reading {
            timestamp_ms: timestamp.unwrap_or_else(|| self.presence.agent.clock.now_ms()),
            ack,
            id,
            origin: ack.map(|_| Origin::new(&link.client_id, id, &publish.payload)),
            payload: publish.payload,
        };
        if ack == Some(Ack::Received) {
            if self.unreleased.len() >= Self::MOST_UNRELEASED {
                return Err(End::Quota);
            }
            self.unreleased.push(id);
        }
        match reading.origin {
            Some(origin) if publish.dup => self.publish_again(reading, origin).await,
            _ => self.produce(reading).await,
        }
    }

    /// A publish that the client has sent before; see [`crate::redelivery`].
    async fn publish_again(&mut self, reading: Reading, origin: Origin) -> Result<(), End> {
        match self.presence.link.known(reading.id, origin.short()) {
            // The acknowledgement of the first one is on its way.
            Known::InFlight => Ok(()),
            Known::OnLog(Found::Once) => self.acknowledge(&reading, false),
            Known::OnLog(Found::Often) => self.produce(reading).await,
            Known::OnLog(Found::No) => {
                if let Some(found) = self.index.find(origin, &self.key) {
                    return self.settle_again(reading, found).await;
                }
                self.search = Some(Box::new(self.search(reading)));
                Ok(())
            }
        }
    }

    fn search(&self, reading: Reading) -> Search {
        let (agent, topic) = (Arc::clone(&self.presence.agent), self.topic.clone());
        let index = Box::pin(async move {
            match tokio::time::timeout(Search::TIMEOUT, agent.redelivery.index(&topic)).await {
                Ok(Ok(index)) => return Some(index),
                Ok(Err(error)) => warn!(%topic, %error, "the recent log cannot be searched"),
                Err(_) => warn!(%topic, "the search of the recent log took too long"),
            }
            None
        });
        Search { reading, index, found: None }
    }

    /// The index is there, or will not come.
    pub(super) async fn take_search(&mut self) -> Result<(), End> {
        let Some(search) = self.search.take() else { return Ok(()) };
        let Search { reading, found: index, .. } = *search;
        self.index = index.unwrap_or_default();
        let found = reading.origin.and_then(|origin| self.index.find(origin, &self.key));
        self.settle_again(reading, found.unwrap_or(Found::No)).await
    }

    async fn settle_again(&mut self, reading: Reading, found: Found) -> Result<(), End> {
        match found {
            Found::Once => self.acknowledge(&reading, true),
            Found::No | Found::Often => self.produce(reading).await,
        }
    }

    /// Acknowledges a publish that is on the log already, in its turn.
    fn acknowledge(&mut self, reading: &Reading, remember: bool) -> Result<(), End> {
        self.presence.agent.metrics.duplicates.increment(1);
        self.begin(&Slot {
            ack: reading.ack,
            id: reading.id,
            short: reading.origin.map_or(0, Origin::short),
            remember,
            outcome: Outcome::Durable,
        })
        .map(|_| ())
    }

    /// Hands a reading over to the log, which will report to the link.
    async fn produce(&mut self, reading: Reading) -> Result<(), End> {
        let token = self.begin(&Slot {
            ack: reading.ack,
            id: reading.id,
            short: reading.origin.map_or(0, Origin::short),
            remember: reading.origin.is_some(),
            outcome: Outcome::Pending,
        })?;
        let record = self.record(&reading.payload, reading.timestamp_ms, reading.origin);
        let link = &self.presence.link;
        let delivery = Delivery::new(Arc::clone(link) as Arc<dyn DeliverySink>, token);
        let mut handing_over = pin!(self.presence.agent.log.produce(record, delivery));
        // The log may have no room for a long time; a session that is closed does not wait for it. The record's
        // fate is then unknown, which matters to nobody: only a device that lost its rights, or the end of the
        // process, interrupts.
        poll_fn(|cx| {
            if handing_over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            link.register(cx.waker());
            match link.closed() {
                Some(why) if why != Close::TakenOver => Poll::Ready(Err(End::Closed(why))),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn record(&self, payload: &[u8], timestamp_ms: i64, origin: Option<Origin>) -> NewRecord {
        let own = &self.presence.link.own;
        let value = device_data::encode(&own.tenant, &own.device, timestamp_ms, payload);
        let mut headers = Headers::new();
        if let Some(origin) = origin {
            headers.push((header::ORIGIN, Bytes::copy_from_slice(origin.as_bytes())));
        }
        // A late record may come to lie in the topic of the next tenant of the name.
        headers.extend(self.generation.clone());
        NewRecord { topic: self.topic.clone(), key: Some(self.key.clone()), value: value.into(), headers }
    }

    fn begin(&mut self, slot: &Slot) -> Result<u64, End> {
        let link = &self.presence.link;
        let closed = || End::Closed(link.closed().unwrap_or(Close::TakenOver));
        let (token, in_flight) = link.begin(*slot).ok_or_else(closed)?;
        self.in_flight = in_flight;
        Ok(token)
    }

    /// The device has no business on this topic.
    fn refuse_topic(&mut self, ack: Option<Ack>, id: u16) -> Result<(), End> {
        match self.version {
            // The only way to say no that version 3.1.1 has.
            Version::V311 => Err(End::NotPermitted),
            Version::V31 | Version::V5 => {
                refused("topic");
                self.refuse(ack, id, reason::NOT_AUTHORIZED)
            }
        }
    }

    /// Nobody could read it: accepted and dropped, since sending it again and again would not help.
    fn refuse_payload(&mut self, ack: Option<Ack>, id: u16) -> Result<(), End> {
        refused("payload");
        if !self.warned {
            self.warned = true;
            let own = &self.presence.link.own;
            warn!(tenant = %own.tenant, device = %own.device, "payloads that are no JSON object are dropped");
        }
        self.refuse(ack, id, reason::PAYLOAD_FORMAT_INVALID)
    }

    /// Acknowledges in its turn what will never be on the log. Version 3 cannot be told the reason.
    fn refuse(&mut self, ack: Option<Ack>, id: u16, reason: u8) -> Result<(), End> {
        if ack.is_none() {
            return Ok(());
        }
        let outcome = Outcome::Refused(reason);
        self.begin(&Slot { ack, id, short: 0, remember: false, outcome }).map(|_| ())
    }

    /// A QoS 2 publish that was not released comes again in the same connection.
    fn receive_again(&mut self, id: u16) {
        self.presence.agent.metrics.duplicates.increment(1);
        if !self.presence.link.awaits_log(id) {
            packet::put_ack(&mut self.out, self.version, Ack::Received, id, reason::SUCCESS);
        }
    }

    /// The client will not send this QoS 2 publish again.
    pub(super) fn release(&mut self, id: u16) {
        let before = self.unreleased.len();
        self.unreleased.retain(|known| *known != id);
        let known = self.unreleased.len() < before;
        if self.unreleased.is_empty() {
            self.unreleased = Vec::new();
        }
        let code = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
        packet::put_ack(&mut self.out, self.version, Ack::Complete, id, code);
    }

    /// Publishes the client's last word.
    pub(super) async fn publish_will(&mut self, will: &Will) {
        let Ok(timestamp) = payload::inspect(&will.payload) else {
            refused("payload");
            return;
        };
        let agent = Arc::clone(&self.presence.agent);
        let record = self.record(&will.payload, timestamp.unwrap_or_else(|| agent.clock.now_ms()), None);
        let slot = Slot { ack: None, id: 0, short: 0, remember: false, outcome: Outcome::Pending };
        let link: &Arc<Link> = &self.presence.link;
        let token = link.begin_last(slot);
        let sink = Arc::clone(link) as Arc<dyn DeliverySink>;
        let produced = agent.log.produce(record, Delivery::new(sink, token));
        agent.shutdown.unless_requested(produced).await;
    }
}
