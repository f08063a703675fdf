//! Why a socket is refused, and how a client is told so without a session of its own.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Json,
    extract::{
        FromRequestParts, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{
    PING_INTERVAL, PING_TIMEOUT,
    handshake::{Handshake, Protocol, Transport},
};

/// How long a refused websocket may take to hear it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Websockets that are being told; beyond that they are answered without one.
static FAREWELLS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(256)));

/// Why a socket was refused; the first three texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    MissingToken,
    UnknownToken,
    /// Something that is needed to tell is away.
    Unverified,
    /// The tenant, or the process, has as many sockets as it may have.
    TooMany,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingToken => "Authentication error: missing token",
            Self::UnknownToken => "Authentication error: unknown token",
            Self::Unverified => "Authentication error: Failed to verify token",
            Self::TooMany => "Too many sockets",
        })
    }
}

impl Refused {
    /// Tells the client the way a socket.io server does, and keeps nothing of it: the session that is opened in the
    /// answer ends in the same answer.
    pub(super) async fn tell(self, handshake: Handshake, parts: &mut Parts) -> Response {
        metrics::counter!("socketio_refused_total").increment(1);
        let packets = self.packets(handshake.protocol);
        match handshake.transport {
            Transport::Polling => {
                let text = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
                (text, payload(handshake.protocol, packets)).into_response()
            }
            Transport::Websocket => self.tell_websocket(packets, parts).await,
        }
    }

    async fn tell_websocket(self, packets: [String; 3], parts: &mut Parts) -> Response {
        let permit = Arc::clone(&FAREWELLS).try_acquire_owned();
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
        if let (Ok(permit), Ok(upgrade)) = (permit, upgrade) {
            return upgrade.max_message_size(4096).on_upgrade(|socket| farewell(socket, packets, permit));
        }
        let body = json!({ "code": 4, "message": self.to_string() });
        (StatusCode::FORBIDDEN, Json(body)).into_response()
    }

    /// A session opens, is refused and closes.
    fn packets(self, protocol: Protocol) -> [String; 3] {
        let mut open = json!({
            "sid": Uuid::new_v4().simple().to_string(),
            "upgrades": [],
            "pingInterval": PING_INTERVAL.as_millis(),
            "pingTimeout": PING_TIMEOUT.as_millis(),
        });
        let reason = match protocol {
            Protocol::V3 => json!(self.to_string()),
            Protocol::V4 => {
                open["maxPayload"] = json!(super::MAX_INBOUND_BYTES);
                json!({ "message": self.to_string() })
            }
        };
        [format!("0{open}"), format!("44{reason}"), "1".to_owned()]
    }
}

/// Packets in the answer to a poll. All of them are ASCII, so that characters are bytes.
fn payload(protocol: Protocol, packets: [String; 3]) -> String {
    match protocol {
        Protocol::V3 => packets.map(|packet| format!("{}:{packet}", packet.len())).concat(),
        // Clients of 4.x look at the close before they look at the refusal when both come in one answer. Their next
        // poll is told that there is no such session.
        Protocol::V4 => packets[..2].join("\x1e"),
    }
}

async fn farewell(mut socket: WebSocket, packets: [String; 3], _permit: OwnedSemaphorePermit) {
    let telling = async {
        for packet in packets {
            socket.send(Message::text(packet)).await?;
        }
        socket.send(Message::Close(None)).await?;
        // What the client sent is read: a connection that is closed with unread bytes may lose what was written.
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    let _ = tokio::time::timeout(FAREWELL, telling).await;
}
