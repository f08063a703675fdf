//! One websocket from its handshake to its end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use common::{shutdown::Shutdown, slots::Slot};
use futures_util::SinkExt;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use crate::{
    domain::close::Close,
    fanout::{Ending, Subscription},
};

/// How long a close frame and its answer may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a socket is given when it opens.
pub(crate) struct Session {
    /// Its frames.
    pub(crate) subscription: Subscription,
    /// Its place among the others.
    pub(crate) slot: Slot,
    /// When it has to close.
    pub(crate) until: Instant,
    /// How often it is pinged.
    pub(crate) ping_interval: Duration,
    /// The end of the process.
    pub(crate) shutdown: Shutdown,
}

/// Why a socket is over.
enum End {
    /// We say so.
    Close(Close),
    /// The peer has closed, or is gone.
    Gone,
}

impl Session {
    /// Serves the socket until one of the sides wants no more.
    pub(crate) async fn run(self, mut socket: WebSocket) {
        let Self { mut subscription, slot, until, ping_interval, shutdown } = self;
        let pulse = Pulse::new();
        let ending = subscription.ending();
        // Writing to a peer that does not read may take for ever, so what ends a socket is watched beside it.
        let end = tokio::select! {
            biased;
            end = watch(&ending, &shutdown, until, &pulse, 2 * ping_interval) => end,
            end = pump(&mut socket, &mut subscription, &pulse, ping_interval) => end,
        };
        drop(subscription);
        match end {
            End::Close(close) => say_goodbye(socket, close).await,
            End::Gone => let_go(socket).await,
        }
        drop(slot);
    }
}

/// Completes when something other than the traffic ends the socket.
async fn watch(
    ending: &Ending,
    shutdown: &Shutdown,
    until: Instant,
    pulse: &Pulse,
    patience: Duration,
) -> End {
    tokio::select! {
        biased;
        () = shutdown.requested() => End::Close(Close::GoingAway),
        close = ending.wait() => {
            if close == Close::TooSlow {
                metrics::counter!("kafka_ws_slow_readers_total").increment(1);
            }
            End::Close(close)
        }
        () = tokio::time::sleep_until(until) => End::Close(Close::Lifetime),
        () = pulse.stops(patience) => End::Gone,
    }
}

/// Writes frames and pings, reads and ignores what the client sends.
async fn pump(
    socket: &mut WebSocket,
    subscription: &mut Subscription,
    pulse: &Pulse,
    ping_interval: Duration,
) -> End {
    let mut ping = tokio::time::interval_at(Instant::now() + ping_interval, ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frames: Vec<Utf8Bytes> = Vec::new();
    loop {
        let sent = tokio::select! {
            count = subscription.next(&mut frames) => {
                if count == 0 {
                    // The fan-out has let go; it also says why, to `watch`.
                    return std::future::pending().await;
                }
                write(socket, &mut frames, subscription).await
            }
            _ = ping.tick() => socket.send(Message::Ping(Bytes::new())).await,
            received = socket.recv() => match received {
                None | Some(Ok(Message::Close(_))) => return End::Gone,
                Some(Err(error)) => {
                    debug!(%error, "a socket cannot be read");
                    return End::Close(Close::BadFrame);
                }
                Some(Ok(_)) => {
                    pulse.beat();
                    Ok(())
                }
            },
        };
        if sent.is_err() {
            return End::Gone;
        }
    }
}

/// Writes all frames with as few system calls as their size allows.
async fn write(
    socket: &mut WebSocket,
    frames: &mut Vec<Utf8Bytes>,
    subscription: &Subscription,
) -> Result<(), axum::Error> {
    let mut bytes = 0;
    for frame in frames.drain(..) {
        bytes += frame.len();
        socket.feed(Message::Text(frame)).await?;
    }
    socket.flush().await?;
    subscription.written(bytes);
    Ok(())
}

/// Closes with a reason and waits a little for the answer, so that the reason is not lost.
pub(crate) async fn say_goodbye(mut socket: WebSocket, close: Close) {
    let frame = CloseFrame { code: close.code(), reason: Utf8Bytes::from_static(close.reason()) };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

/// Answers the close frame of the client, if it sent one.
async fn let_go(mut socket: WebSocket) {
    let _ = tokio::time::timeout(GOODBYE, socket.close()).await;
}

/// When the peer was last heard.
struct Pulse {
    start: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn beat(&self) {
        self.last_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Completes when the peer was not heard for so long.
    async fn stops(&self, patience: Duration) {
        loop {
            let last = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let deadline = last + patience;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}
