//! MQTT packets, the same for all three versions. `rmqtt-codec` reads and writes them; what it lets pass although the
//! standard forbids it is refused here.

mod read;
mod write;

use bytes::Bytes;

pub(crate) use self::{
    read::{frame_len, read, read_connect},
    write::{
        put_ack, put_disconnect, put_pong, put_publish, put_refusal, put_suback, put_unsuback, put_welcome,
    },
};
pub(crate) use rmqtt_codec::types::Publish;

/// Version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A packet that breaks the rules: its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It cannot be read.
    Malformed,
    /// It can be read and is forbidden, here or altogether.
    Protocol,
    /// It is larger than allowed.
    TooLarge,
}

/// What a client sends after CONNECT.
#[derive(Debug)]
pub(crate) enum Inbound {
    Publish(Box<Publish>),
    PubAck(u16),
    PubRel(u16),
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    Ping,
    Disconnect { publish_will: bool },
}

/// What a client says about itself.
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) keep_alive: u16,
    pub(crate) client_id: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Bytes>,
    pub(crate) will: Option<Box<Will>>,
    /// How many publishes it takes before it acknowledges one.
    pub(crate) receive_max: u16,
    /// Largest packet that it takes.
    pub(crate) max_packet: u32,
    /// Whether it asks for an authentication method that nobody offers.
    pub(crate) authentication_method: bool,
}

/// What is published for a client that ends without a word.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnsupportedVersion,
    ClientId,
    Unavailable,
    Credentials,
    NotAuthorized,
    Quota,
    AuthenticationMethod,
    /// It takes no packet as large as the CONNACK that accepts it.
    PacketSize,
}

/// A CONNECT, or why it is refused and how to say so.
pub(crate) type Connecting = Result<Connect, Refused>;

/// A CONNECT that is refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Absent when it is none that is known.
    pub(crate) version: Option<Version>,
    /// Largest packet that the client takes, as far as it was read.
    pub(crate) max_packet: u32,
    pub(crate) refusal: Refusal,
}

/// The short acknowledgements of publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// PUBACK: a QoS 1 publish is taken.
    Acknowledged = 0x40,
    /// PUBREC: a QoS 2 publish is taken.
    Received = 0x50,
    /// PUBCOMP: a QoS 2 publish is over.
    Complete = 0x70,
}

/// Reason codes of version 5 that an acknowledgement may carry. Version 3 has no way to say them.
pub(crate) mod reason {
    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;
    pub(crate) const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
}

/// What the server says about itself when it accepts a client.
pub(crate) struct Welcome<'a> {
    pub(crate) version: Version,
    /// Set when the server chose the client id.
    pub(crate) assigned_client_id: Option<&'a str>,
    pub(crate) receive_max: u16,
    /// Largest packet that the server takes.
    pub(crate) max_packet: u32,
    /// Set when it differs from what the client asked for.
    pub(crate) keep_alive: Option<u16>,
}
