//! A connected client: one task, one loop, everything that can happen in one place ([`Session::poll_wake`]).
//!
//! The task sleeps in a single hand-written poll, so that it is small: no buffer, no future per source of wake-ups.

mod outbound;
mod publish;

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use common::{
    engine::event_log::generation_header,
    slots::Slot,
    wire::{Topic, event::device_key},
};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use self::{outbound::Outbound, publish::Search};
use crate::{
    agent::Presence,
    domain::identity::Identity,
    link::Close,
    metrics::refused,
    packet::{self, Broken, Connect, Inbound, Version, Will},
    redelivery::Lookup,
    stream::Stream,
};

/// A session, see the module.
pub(crate) struct Session {
    presence: Presence,
    stream: Stream,
    version: Version,
    input: BytesMut,
    out: BytesMut,
    timer: Pin<Box<Sleep>>,
    /// When the client was last heard.
    heard: Instant,
    keep_alive: Duration,
    /// When the session ends whatever the client does: with its certificate, or soon when the process ends.
    ends: Option<Instant>,
    /// Where its readings go.
    topic: Topic,
    key: Bytes,
    /// Which of the tenants that have had the name, as records carry it.
    generation: Option<(&'static str, Bytes)>,
    will: Option<Box<Will>>,
    /// Publishes that are not acknowledged yet, as of the last look.
    in_flight: usize,
    /// QoS 2 publishes whose PUBREL has not come yet.
    unreleased: Vec<u16>,
    outbound: Outbound,
    /// A publish that is sent again and looked for on the log; meanwhile nothing is read.
    search: Option<Box<Search>>,
    /// Origins on the log, once they were needed.
    index: Lookup,
    /// The client was warned about in the log, once.
    warned: bool,
    _slot: Slot<IpAddr>,
}

/// What a session begins with.
pub(crate) struct Start {
    pub(crate) presence: Presence,
    pub(crate) stream: Stream,
    pub(crate) connect: Connect,
    /// What came after the CONNECT.
    pub(crate) input: BytesMut,
    /// The CONNACK.
    pub(crate) out: BytesMut,
    pub(crate) topic: Topic,
    /// Which of the tenants that have had the name of the device's; 0 when nobody knows.
    pub(crate) generation: i64,
    pub(crate) keep_alive: Duration,
    /// When the client's certificate ends.
    pub(crate) ends: Option<Instant>,
    /// One of the connections that the process may have.
    pub(crate) slot: Slot<IpAddr>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client said goodbye.
    Disconnected { publish_will: bool },
    /// The connection is gone.
    Gone,
    /// It sent something that is not MQTT.
    Broken(Broken),
    /// It was silent for too long.
    Silent,
    /// It published where it may not, in a version that has no word for that.
    NotPermitted,
    /// It has begun more QoS 2 publishes than anybody finishes.
    Quota,
    /// It asked for so much at once that the answer would be larger than it takes.
    AnswerTooLarge,
    /// The log gave up a publish: the client has to send it again.
    Lost,
    /// Its certificate has ended.
    CertificateEnded,
    /// Somebody else decided so.
    Closed(Close),
}

/// What wakes a session.
enum Wake {
    /// There may be packets in `input`.
    Input,
    /// The search is over.
    Searched,
    End(End),
}

impl Session {
    /// How much may wait to be written until nothing more is read.
    const MAX_OUT: usize = 16 * 1024;
    /// How long open publishes may take when the process ends.
    const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(5);
    const FAREWELL: Duration = Duration::from_secs(1);

    pub(crate) fn new(start: Start) -> Self {
        let Identity { tenant, device } = &start.presence.link.own;
        let key = Bytes::from(device_key(tenant, device));
        let heard = Instant::now();
        // MQTT allows one and a half times the keep-alive.
        let keep_alive = start.keep_alive.mul_f32(1.5);
        let silent = heard + keep_alive;
        let first_look = start.ends.map_or(silent, |ends| ends.min(silent));
        Self {
            key,
            generation: generation_header(start.generation),
            presence: start.presence,
            stream: start.stream,
            version: start.connect.version,
            input: start.input,
            out: start.out,
            timer: Box::pin(sleep_until(first_look)),
            heard,
            keep_alive,
            ends: start.ends,
            topic: start.topic,
            will: start.connect.will,
            in_flight: 0,
            unreleased: Vec::new(),
            outbound: Outbound::new(start.connect.receive_max, start.connect.max_packet),
            search: None,
            index: Lookup::default(),
            warned: false,
            _slot: start.slot,
        }
    }

    /// Serves the client until it leaves or has to.
    pub(crate) async fn run(mut self) {
        let end = self.serve().await;
        Box::pin(self.end(end)).await;
    }

    async fn serve(&mut self) -> End {
        // What came with the CONNECT.
        let mut wake = Wake::Input;
        loop {
            // Boxed: handing a record over may have to wait, and what that needs (two kilobytes) is not kept by a
            // connection that waits for packets. One allocation for all packets that came together.
            let handled = match wake {
                Wake::Input => Box::pin(self.take_input()).await,
                Wake::Searched => Box::pin(self.take_search()).await,
                Wake::End(end) => return end,
            };
            match handled {
                // At the end of the process, what is on its way is still acknowledged, below.
                Ok(()) | Err(End::Closed(Close::ShuttingDown)) => {}
                Err(end) => return end,
            }
            wake = poll_fn(|cx| self.poll_wake(cx)).await;
        }
    }

    /// Handles the packets that are there, as far as the log keeps up.
    async fn take_input(&mut self) -> Result<(), End> {
        while self.may_read() {
            let max = self.presence.agent.config.max_packet_bytes;
            match packet::frame_len(&self.input, max).map_err(End::Broken)? {
                Some(frame) if self.input.len() >= frame => {}
                _ => break,
            }
            let packet = packet::read(self.version, &mut self.input).map_err(End::Broken)?;
            self.take(packet).await?;
        }
        if self.input.is_empty() {
            // An idle connection keeps no read buffer.
            self.input = BytesMut::new();
        }
        Ok(())
    }

    async fn take(&mut self, packet: Inbound) -> Result<(), End> {
        match packet {
            Inbound::Publish(publish) => self.publish(publish).await?,
            Inbound::PubRel(id) => self.release(id),
            Inbound::PubAck(id) => self.outbound.acknowledged(id),
            Inbound::Subscribe { id, filters } => self.subscribe(id, &filters)?,
            Inbound::Unsubscribe { id, filters } => self.unsubscribe(id, &filters)?,
            Inbound::Ping => packet::put_pong(&mut self.out),
            Inbound::Disconnect { publish_will } => return Err(End::Disconnected { publish_will }),
        }
        Ok(())
    }

    /// Back-pressure: a slow log fills the window, a slow client fills the output, and nothing more is read.
    fn may_read(&self) -> bool {
        let window = usize::from(self.presence.agent.config.in_flight);
        self.search.is_none() && self.in_flight < window && self.out.len() < Self::MAX_OUT
    }

    /// The one place where a session waits.
    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.presence.link.register(cx.waker());
        match self.poll_output(cx) {
            Ok(()) => {}
            Err(end) => return Poll::Ready(Wake::End(end)),
        }
        if let Some(search) = &mut self.search
            && search.poll(cx).is_ready()
        {
            return Poll::Ready(Wake::Searched);
        }
        let leaving = self.presence.link.closed().is_some();
        if !leaving && self.may_read() {
            if self.has_packet() {
                return Poll::Ready(Wake::Input);
            }
            match self.stream.poll_read(cx, &mut self.input) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Wake::End(End::Gone)),
                Poll::Ready(Ok(_)) => {
                    self.heard = Instant::now();
                    return Poll::Ready(Wake::Input);
                }
                Poll::Pending => {}
            }
        }
        self.poll_timer(cx).map(Wake::End)
    }

    /// Whether a whole packet, or one that is broken, waits since there was no room for it.
    fn has_packet(&self) -> bool {
        let max = self.presence.agent.config.max_packet_bytes;
        match packet::frame_len(&self.input, max) {
            Ok(Some(frame)) => self.input.len() >= frame,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Writes acknowledgements that are due and messages for the client, all of them in one write.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            let (out, version) = (&mut self.out, self.version);
            let progress = self.presence.link.collect(|ack, id, reason| {
                packet::put_ack(out, version, ack, id, reason);
            });
            self.in_flight = progress.in_flight;
            if progress.acknowledged > 0 {
                self.presence.agent.metrics.acknowledged.increment(progress.acknowledged);
            }
            if progress.lost {
                return Err(End::Lost);
            }
            match progress.closed {
                None => {}
                // A graceful end: what is on its way is still acknowledged.
                Some(Close::ShuttingDown) if self.in_flight > 0 => {
                    let until = Instant::now() + Self::LAST_ACKNOWLEDGEMENTS;
                    self.ends = Some(self.ends.map_or(until, |ends| ends.min(until)));
                    let nearest = self.timer.deadline().min(until);
                    self.timer.as_mut().reset(nearest);
                }
                Some(why) => return Err(End::Closed(why)),
            }
            let more = self.take_outgoing();
            match self.stream.poll_flush(cx, &mut self.out) {
                Poll::Ready(Ok(())) if more => {}
                Poll::Ready(Err(_)) => return Err(End::Gone),
                _ => return Ok(()),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // Set once and looked at when it fires, instead of moved with every packet.
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.search.is_some() || self.in_flight >= usize::from(self.presence.agent.config.in_flight) {
                // It was us who did not listen.
                self.heard = now;
            }
            let silent = self.heard + self.keep_alive;
            if self.ends.is_some_and(|ends| ends <= now) {
                let closed = self.presence.link.closed();
                return Poll::Ready(closed.map_or(End::CertificateEnded, End::Closed));
            }
            if silent <= now {
                return Poll::Ready(End::Silent);
            }
            let next = self.ends.map_or(silent, |ends| ends.min(silent));
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    async fn end(mut self, end: End) {
        count(end);
        let Identity { tenant, device } = &self.presence.link.own;
        debug!(%tenant, %device, client = %self.presence.link.client_id, ?end, "disconnected");
        if let Some(code) = disconnect_code(end) {
            packet::put_disconnect(&mut self.out, self.version, code);
        }
        let _ = tokio::time::timeout(Self::FAREWELL, self.say_goodbye()).await;
        let says_will = match end {
            End::Disconnected { publish_will } => publish_will,
            // Who has lost its rights has no last word, and who is only moved elsewhere has not died.
            End::Closed(Close::Revoked | Close::ShuttingDown) | End::CertificateEnded => false,
            _ => true,
        };
        if says_will && let Some(will) = self.will.take() {
            self.publish_will(&will).await;
        }
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.stream.poll_flush(cx, &mut self.out)).await?;
        poll_fn(|cx| self.stream.poll_shutdown(cx)).await
    }
}

fn count(end: End) {
    match end {
        End::Broken(Broken::TooLarge) => refused("packet_too_large"),
        End::Broken(_) => refused("broken_packet"),
        End::Silent => refused("keep_alive"),
        End::NotPermitted => refused("topic"),
        End::Quota => refused("quota"),
        End::AnswerTooLarge => refused("answer_too_large"),
        End::CertificateEnded => refused("certificate_ended"),
        End::Closed(Close::Revoked) => refused("revoked"),
        End::Disconnected { .. } | End::Gone | End::Lost | End::Closed(_) => {}
    }
}

/// Reason code of version 5.
fn disconnect_code(end: End) -> Option<u8> {
    Some(match end {
        End::Disconnected { .. } | End::Gone => return None,
        End::Broken(Broken::Malformed) => 0x81,
        End::Broken(Broken::Protocol) => 0x82,
        End::Broken(Broken::TooLarge) | End::AnswerTooLarge => 0x95,
        End::Silent => 0x8d,
        End::NotPermitted | End::Closed(Close::Revoked) => 0x87,
        End::Quota => 0x93,
        End::Lost => 0x83,
        End::CertificateEnded => 0xa0,
        End::Closed(Close::TakenOver) => 0x8e,
        End::Closed(Close::ShuttingDown) => 0x8b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        fn size<A, F>(_: fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let (task, link) = (size(Session::run), size_of::<crate::link::Link>());
        assert!(task <= 1024, "{task}");
        assert!(link <= 256, "{link}");
    }
}
