//! From packets to bytes. Most are so short that writing them by hand is simpler than describing them to the codec.

use bytes::{BufMut, BytesMut};
use rmqtt_codec::v5;
use tokio_util::codec::Encoder;

use super::{Ack, Refusal, Refused, Version, Welcome, reason};

/// Writes an acknowledgement. By hand: it is four bytes, and on the path of every message.
pub(crate) fn put_ack(out: &mut BytesMut, version: Version, ack: Ack, id: u16, reason: u8) {
    let [high, low] = id.to_be_bytes();
    if version == Version::V5 && reason != reason::SUCCESS {
        out.put_slice(&[ack as u8, 3, high, low, reason]);
    } else {
        out.put_slice(&[ack as u8, 2, high, low]);
    }
}

/// Writes a PINGRESP.
pub(crate) fn put_pong(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// Writes the CONNACK of an accepted client. There is never a session from before.
///
/// Returns whether it was written: nothing in it may be left out, and what is larger than the client takes must not be
/// sent.
pub(crate) fn put_welcome(out: &mut BytesMut, max_packet: u32, welcome: &Welcome<'_>) -> bool {
    let before = out.len();
    if welcome.version == Version::V5 {
        let ack = v5::ConnectAck {
            session_expiry_interval_secs: Some(0),
            receive_max: welcome.receive_max.try_into().unwrap_or(std::num::NonZeroU16::MIN),
            max_packet_size: Some(welcome.max_packet),
            assigned_client_id: welcome.assigned_client_id.map(Into::into),
            server_keepalive_sec: welcome.keep_alive,
            retain_available: false,
            shared_subscription_available: false,
            subscription_identifiers_available: false,
            ..v5::ConnectAck::default()
        };
        put_v5(out, v5::Packet::ConnectAck(Box::new(ack)));
    } else {
        out.put_slice(&[0x20, 2, 0, 0]);
    }
    let fits = out.len() - before <= max_packet as usize;
    if !fits {
        out.truncate(before);
    }
    fits
}

/// Writes the CONNACK of a refused client, unless even that is larger than it takes.
pub(crate) fn put_refusal(out: &mut BytesMut, refused: &Refused) {
    const LARGEST: u32 = 5;
    if refused.max_packet < LARGEST {
        return;
    }
    if refused.version == Some(Version::V5) {
        let code = match refused.refusal {
            Refusal::UnsupportedVersion => 0x84,
            Refusal::ClientId => 0x85,
            Refusal::Unavailable => 0x88,
            Refusal::Credentials => 0x86,
            Refusal::NotAuthorized => 0x87,
            Refusal::Quota => 0x97,
            Refusal::AuthenticationMethod => 0x8c,
            // "Implementation specific": that of packets that are too large is about the CONNECT itself.
            Refusal::PacketSize => 0x83,
        };
        out.put_slice(&[0x20, 3, 0, code, 0]);
    } else {
        let code = match refused.refusal {
            Refusal::UnsupportedVersion => 1,
            Refusal::ClientId => 2,
            Refusal::Unavailable | Refusal::Quota | Refusal::PacketSize => 3,
            Refusal::Credentials => 4,
            Refusal::NotAuthorized | Refusal::AuthenticationMethod => 5,
        };
        out.put_slice(&[0x20, 2, 0, code]);
    }
}

/// Writes a SUBACK with a verdict per filter: the granted QoS, or `None`.
///
/// Returns whether it was written: what is larger than the client takes must not be sent.
pub(crate) fn put_suback(
    out: &mut BytesMut,
    version: Version,
    max_packet: u32,
    id: u16,
    verdicts: &[Option<u8>],
) -> bool {
    let refused = if version == Version::V5 { reason::NOT_AUTHORIZED } else { 0x80 };
    let codes = verdicts.iter().map(|granted| granted.unwrap_or(refused));
    put_verdicts(out, version, max_packet, 0x90, id, codes)
}

/// Writes an UNSUBACK; version 5 is told which filters had been subscribed.
///
/// Returns whether it was written: what is larger than the client takes must not be sent.
pub(crate) fn put_unsuback(
    out: &mut BytesMut,
    version: Version,
    max_packet: u32,
    id: u16,
    existed: &[bool],
) -> bool {
    if version == Version::V5 {
        let codes = existed.iter().map(|existed| if *existed { 0 } else { 0x11 });
        return put_verdicts(out, version, max_packet, 0xb0, id, codes);
    }
    let [high, low] = id.to_be_bytes();
    out.put_slice(&[0xb0, 2, high, low]);
    true
}

fn put_verdicts(
    out: &mut BytesMut,
    version: Version,
    max_packet: u32,
    kind: u8,
    id: u16,
    codes: impl ExactSizeIterator<Item = u8>,
) -> bool {
    let properties = usize::from(version == Version::V5);
    let length = 2 + properties + codes.len();
    if packet_size(length) > max_packet as usize {
        return false;
    }
    out.put_u8(kind);
    put_length(out, length);
    out.put_u16(id);
    out.put_bytes(0, properties);
    codes.for_each(|code| out.put_u8(code));
    true
}

/// Size of a packet whose content has this length: the first byte and the length itself belong to it.
fn packet_size(length: usize) -> usize {
    let length_of_length = match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    };
    1 + length_of_length + length
}

fn put_length(out: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

/// Writes a PUBLISH with QoS 1 when there is a packet id, else with QoS 0.
///
/// Returns whether it was written: what is larger than the client takes must not be sent.
pub(crate) fn put_publish(
    out: &mut BytesMut,
    version: Version,
    max_packet: u32,
    topic: &str,
    id: Option<u16>,
    payload: &[u8],
) -> bool {
    let properties = usize::from(version == Version::V5);
    let length = 2 + topic.len() + 2 * usize::from(id.is_some()) + properties + payload.len();
    if packet_size(length) > max_packet as usize || topic.len() > usize::from(u16::MAX) {
        return false;
    }
    out.reserve(length + 5);
    out.put_u8(if id.is_some() { 0x32 } else { 0x30 });
    put_length(out, length);
    out.put_u16(topic.len() as u16);
    out.put_slice(topic.as_bytes());
    if let Some(id) = id {
        out.put_u16(id);
    }
    out.put_bytes(0, properties);
    out.put_slice(payload);
    true
}

/// Writes a DISCONNECT with its reason; version 3 has none from servers.
pub(crate) fn put_disconnect(out: &mut BytesMut, version: Version, code: u8) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 2, code, 0]);
    }
}

fn put_v5(out: &mut BytesMut, packet: v5::Packet) {
    let written = v5::Codec::new(0, 0).encode(packet, out);
    debug_assert!(written.is_ok(), "a packet of ours has all its parts");
}

#[cfg(test)]
mod tests {
    use rmqtt_codec::v5::DisconnectReasonCode;
    use tokio_util::codec::Decoder;

    use super::*;

    fn refused(max_packet: u32) -> Refused {
        Refused { version: Some(Version::V5), max_packet, refusal: Refusal::Credentials }
    }

    #[test]
    fn what_is_written_by_hand_is_what_the_codec_reads() {
        let mut out = BytesMut::new();
        assert!(put_publish(&mut out, Version::V5, u32::MAX, "t:d/config", Some(7), &[b'x'; 300]));
        assert!(put_suback(&mut out, Version::V5, u32::MAX, 2, &[Some(1), None]));
        assert!(put_unsuback(&mut out, Version::V5, u32::MAX, 3, &[true, false]));
        put_ack(&mut out, Version::V5, Ack::Received, 4, reason::NOT_AUTHORIZED);
        put_refusal(&mut out, &refused(u32::MAX));
        put_disconnect(&mut out, Version::V5, 0x8e);
        let mut codec = v5::Codec::new(0, 0);
        let mut next = || codec.decode(&mut out).unwrap().unwrap().0;
        let v5::Packet::Publish(publish) = next() else { panic!("a PUBLISH") };
        assert_eq!((publish.topic.as_ref() as &str, publish.payload.len()), ("t:d/config", 300));
        let v5::Packet::SubscribeAck(ack) = next() else { panic!("a SUBACK") };
        assert_eq!(ack.status, [v5::SubscribeAckReason::GrantedQos1, v5::SubscribeAckReason::NotAuthorized]);
        let v5::Packet::UnsubscribeAck(ack) = next() else { panic!("an UNSUBACK") };
        assert_eq!(ack.status.len(), 2);
        let v5::Packet::PublishReceived(ack) = next() else { panic!("a PUBREC") };
        assert_eq!(ack.reason_code, v5::PublishAckReason::NotAuthorized);
        let v5::Packet::ConnectAck(ack) = next() else { panic!("a CONNACK") };
        assert_eq!(ack.reason_code, v5::ConnectAckReason::BadUserNameOrPassword);
        let v5::Packet::Disconnect(bye) = next() else { panic!("a DISCONNECT") };
        assert_eq!(bye.reason_code, DisconnectReasonCode::SessionTakenOver);
    }
    type Put<'a> = &'a dyn Fn(&mut BytesMut, u32) -> bool;

    #[test]
    fn what_is_larger_than_the_client_takes_is_not_written() {
        let welcome = Welcome {
            version: Version::V5,
            assigned_client_id: Some("auto-1"),
            receive_max: 64,
            max_packet: 1000,
            keep_alive: Some(60),
        };
        let many = [true; 200];
        let granted = many.map(|_| Some(1));
        let publish = |length: usize| {
            let payload = vec![b'x'; length];
            move |out: &mut BytesMut, max| put_publish(out, Version::V5, max, "t", Some(7), &payload)
        };
        // Their lengths take one byte to two, and two to three.
        let (short, long) = (publish(121), publish(122));
        let (longer, longest) = (publish(16_377), publish(16_378));
        let puts: [Put<'_>; 8] = [
            &|out, max| put_welcome(out, max, &welcome),
            &|out, max| put_suback(out, Version::V5, max, 2, &granted),
            &|out, max| put_unsuback(out, Version::V5, max, 3, &many),
            &|out, max| {
                put_refusal(out, &refused(max));
                !out.is_empty()
            },
            &short,
            &long,
            &longer,
            &longest,
        ];
        for (number, put) in puts.iter().enumerate() {
            let mut out = BytesMut::new();
            assert!(put(&mut out, u32::MAX), "{number}");
            let size = out.len() as u32;
            out.clear();
            assert!(put(&mut out, size), "{number}: {size} bytes");
            out.clear();
            assert!(!put(&mut out, size - 1) && out.is_empty(), "{number}: {size} bytes");
        }
    }
}
