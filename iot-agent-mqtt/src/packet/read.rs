//! From bytes to packets. What the codec lets pass although the standard forbids it is refused here.

use bytes::{Bytes, BytesMut};
use rmqtt_codec::{
    error::DecodeError,
    types::QoS,
    v3,
    v5::{self, DisconnectReasonCode},
};
use tokio_util::codec::Decoder;

use super::{Broken, Connect, Connecting, Inbound, Publish, Refusal, Refused, Version, Will};

/// Size of the frame at the beginning of `input`, once its length can be read. Reserves nothing: the codec would
/// believe whatever length a stranger claims.
pub(crate) fn frame_len(input: &[u8], max: u32) -> Result<Option<usize>, Broken> {
    let mut length: u32 = 0;
    for (at, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let total = length as usize + at + 2;
            return if total > max as usize { Err(Broken::TooLarge) } else { Ok(Some(total)) };
        }
    }
    if input.len() > 4 { Err(Broken::Malformed) } else { Ok(None) }
}

/// Reads the CONNECT at the beginning of `input`, which holds the whole frame.
pub(crate) fn read_connect(input: &mut BytesMut, frame: usize) -> Result<Connecting, Broken> {
    let refused = |version, refusal| Refused { version, max_packet: u32::MAX, refusal };
    let version = match version_of(&input[..frame])? {
        Ok(version) => version,
        Err(refusal) => return Ok(Err(refused(None, refusal))),
    };
    let decoded = if version == Version::V5 {
        v5::Codec::new(0, 0).decode(input).map(|packet| packet.map(|(packet, _)| connect_of_v5(packet)))
    } else {
        v3::Codec::new(0).decode(input).map(|packet| packet.map(|(packet, _)| connect_of_v3(version, packet)))
    };
    match decoded {
        Ok(Some(connect)) => Ok(check_client_id(connect?)),
        Err(DecodeError::InvalidClientId) => Ok(Err(refused(Some(version), Refusal::ClientId))),
        Ok(None) | Err(_) => Err(Broken::Malformed),
    }
}

/// Protocol name and level; an unknown level deserves an answer.
fn version_of(frame: &[u8]) -> Result<Result<Version, Refusal>, Broken> {
    let header = frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    let body = frame.get(header..).ok_or(Broken::Malformed)?;
    Ok(match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Ok(Version::V311),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Ok(Version::V5),
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, ..] => Ok(Version::V31),
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', _, ..] => {
            Err(Refusal::UnsupportedVersion)
        }
        _ => return Err(Broken::Protocol),
    })
}

fn connect_of_v3(version: Version, packet: v3::Packet) -> Result<Connect, Broken> {
    let v3::Packet::Connect(connect) = packet else { return Err(Broken::Protocol) };
    if connect.password.is_some() && connect.username.is_none() {
        return Err(Broken::Protocol);
    }
    let will = connect.last_will.map(|will| will_of(&will.topic, &will.message)).transpose()?;
    Ok(Connect {
        version,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_string(),
        user: connect.username.map(|user| user.to_string()),
        password: connect.password,
        will,
        receive_max: u16::MAX,
        max_packet: u32::MAX,
        authentication_method: false,
    })
}

fn connect_of_v5(packet: v5::Packet) -> Result<Connect, Broken> {
    let v5::Packet::Connect(connect) = packet else { return Err(Broken::Protocol) };
    let will = connect.last_will.map(|will| will_of(&will.topic, &will.message)).transpose()?;
    Ok(Connect {
        version: Version::V5,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_string(),
        user: connect.username.map(|user| user.to_string()),
        password: connect.password,
        will,
        receive_max: connect.receive_max.map_or(u16::MAX, Into::into),
        max_packet: connect.max_packet_size.map_or(u32::MAX, Into::into),
        authentication_method: connect.auth_method.is_some(),
    })
}

fn will_of(topic: &str, payload: &[u8]) -> Result<Box<Will>, Broken> {
    check_topic_name(topic)?;
    // A copy, so that the will does not keep the whole CONNECT in memory.
    Ok(Box::new(Will { topic: topic.to_owned(), payload: Bytes::copy_from_slice(payload) }))
}

fn check_client_id(connect: Connect) -> Connecting {
    const LONGEST: usize = 128;
    let id = &connect.client_id;
    let empty_in_31 = id.is_empty() && connect.version == Version::V31;
    if id.len() > LONGEST || empty_in_31 || id.contains(char::is_control) {
        let (version, max_packet) = (Some(connect.version), connect.max_packet);
        return Err(Refused { version, max_packet, refusal: Refusal::ClientId });
    }
    Ok(connect)
}

/// Reads the packet at the beginning of `input`, which holds the whole frame.
pub(crate) fn read(version: Version, input: &mut BytesMut) -> Result<Inbound, Broken> {
    // PINGREQ, and DISCONNECT of version 3, have no content; the codec does not look.
    let must_be_empty = match input.first() {
        Some(0xc0) => true,
        Some(0xe0) => version != Version::V5,
        _ => false,
    };
    if must_be_empty && input.get(1) != Some(&0) {
        return Err(Broken::Malformed);
    }
    let packet = if version == Version::V5 {
        v5::Codec::new(0, 0).decode(input).map(|packet| packet.map(|(packet, _)| inbound_of_v5(packet)))
    } else {
        v3::Codec::new(0).decode(input).map(|packet| packet.map(|(packet, _)| inbound_of_v3(packet)))
    };
    match packet {
        Ok(Some(packet)) => packet,
        _ => Err(Broken::Malformed),
    }
}

fn inbound_of_v3(packet: v3::Packet) -> Result<Inbound, Broken> {
    Ok(match packet {
        v3::Packet::Publish(publish) => Inbound::Publish(check_publish(publish)?),
        v3::Packet::PublishAck { packet_id } => Inbound::PubAck(packet_id.get()),
        v3::Packet::PublishRelease { packet_id } => Inbound::PubRel(packet_id.get()),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let filters = topic_filters.iter().map(|(filter, qos)| (filter.to_string(), qos.value()));
            Inbound::Subscribe { id: packet_id.get(), filters: filters.collect() }
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => Inbound::Unsubscribe {
            id: packet_id.get(),
            filters: topic_filters.iter().map(ToString::to_string).collect(),
        },
        v3::Packet::PingRequest => Inbound::Ping,
        v3::Packet::Disconnect => Inbound::Disconnect { publish_will: false },
        // A second CONNECT, or something that only servers say. Nothing is delivered with QoS 2, so PUBREC and
        // PUBCOMP answer nothing.
        _ => return Err(Broken::Protocol),
    })
}

fn inbound_of_v5(packet: v5::Packet) -> Result<Inbound, Broken> {
    Ok(match packet {
        v5::Packet::Publish(publish) => {
            let properties = publish.properties.as_ref();
            // No alias was offered, and subscription identifiers are for servers to send.
            if properties.is_some_and(|p| p.topic_alias.is_some() || !p.subscription_ids.is_empty()) {
                return Err(Broken::Protocol);
            }
            Inbound::Publish(check_publish(publish)?)
        }
        v5::Packet::PublishAck(ack) => Inbound::PubAck(ack.packet_id.get()),
        v5::Packet::PublishRelease(ack) => Inbound::PubRel(ack.packet_id.get()),
        v5::Packet::Subscribe(subscribe) => {
            // Identifiers were said not to be available.
            if subscribe.id.is_some() {
                return Err(Broken::Protocol);
            }
            let filters = subscribe.topic_filters.iter();
            let filters = filters.map(|(filter, options)| (filter.to_string(), options.qos.value()));
            Inbound::Subscribe { id: subscribe.packet_id.get(), filters: filters.collect() }
        }
        v5::Packet::Unsubscribe(unsubscribe) => Inbound::Unsubscribe {
            id: unsubscribe.packet_id.get(),
            filters: unsubscribe.topic_filters.iter().map(ToString::to_string).collect(),
        },
        v5::Packet::PingRequest => Inbound::Ping,
        v5::Packet::Disconnect(disconnect) => {
            let publish_will = disconnect.reason_code != DisconnectReasonCode::NormalDisconnection;
            Inbound::Disconnect { publish_will }
        }
        _ => return Err(Broken::Protocol),
    })
}

fn check_publish(publish: Box<Publish>) -> Result<Box<Publish>, Broken> {
    check_topic_name(&publish.topic)?;
    // Only what will be acknowledged can be sent again.
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(Broken::Protocol);
    }
    Ok(publish)
}

fn check_topic_name(topic: &str) -> Result<(), Broken> {
    let forbidden = |byte: u8| matches!(byte, b'#' | b'+' | 0);
    if topic.is_empty() || topic.bytes().any(forbidden) { Err(Broken::Protocol) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_frame_is_read_without_trust() {
        for (input, expected) in [
            (b"".as_slice(), Ok(None)),
            (b"\x30", Ok(None)),
            (b"\x30\x80", Ok(None)),
            (b"\x30\x80\x80\x80", Ok(None)),
            (b"\xc0\x00", Ok(Some(2))),
            (b"\x30\x7f", Ok(Some(129))),
            (b"\x30\x80\x01", Ok(Some(131))),
            (b"\x30\xff\x7f", Err(Broken::TooLarge)),
            (b"\x30\xff\xff\xff\x7f", Err(Broken::TooLarge)),
            (b"\x30\xff\xff\xff\xff", Err(Broken::Malformed)),
        ] {
            assert_eq!(frame_len(input, 1000), expected, "{input:?}");
        }
    }

    fn connect(frame: &[u8]) -> Result<Result<Version, Refusal>, Broken> {
        let mut input = BytesMut::from(frame);
        let whole = frame_len(frame, 65_536)?.filter(|len| *len == frame.len()).ok_or(Broken::Malformed)?;
        let read = read_connect(&mut input, whole)?;
        Ok(read.map(|connect| connect.version).map_err(|refused| refused.refusal))
    }

    #[test]
    fn three_versions_are_told_apart() {
        for (frame, expected) in [
            (b"\x10\x0d\0\x06MQIsdp\x03\x02\0\x0a\0\x01a".as_slice(), Ok(Ok(Version::V31))),
            (b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01a", Ok(Ok(Version::V311))),
            (b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01a", Ok(Ok(Version::V5))),
            (b"\x10\x0d\0\x04MQTT\x06\x02\0\x0a\0\x01a", Ok(Err(Refusal::UnsupportedVersion))),
            (b"\x10\x0f\0\x06MQIsdp\x04\x02\0\x0a\0\x01a", Ok(Err(Refusal::UnsupportedVersion))),
            (b"\x10\x0c\0\x04MQTT\x04\0\0\x0a\0\0", Ok(Err(Refusal::ClientId))),
            (b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x0a\0\0", Ok(Err(Refusal::ClientId))),
            (b"\x10\x0d\0\x04HTTP\x04\x02\0\x0a\0\x01a", Err(Broken::Protocol)),
            (b"\x10\x0d\0\x04MQTT\x04\x03\0\x0a\0\x01a", Err(Broken::Malformed)),
            (b"\x10\x0d\0\x04MQTT\x04\x1a\0\x0a\0\x01a", Err(Broken::Malformed)),
            (b"\x10\x10\0\x04MQTT\x04\x42\0\x0a\0\x01a\0\x01p", Err(Broken::Protocol)),
            (b"\x10\x0d\0\x04MQTT\x04\x82\0\x0a\0\x01a", Err(Broken::Malformed)),
            (b"\x10\x00", Err(Broken::Protocol)),
        ] {
            let mut frame = frame.to_vec();
            // The tables above are written by hand: the length is not what is tested here.
            frame[1] = (frame.len() - 2) as u8;
            assert_eq!(connect(&frame), expected, "{frame:?}");
        }
    }

    #[test]
    fn forbidden_packets_are_refused() {
        for (version, frame) in [
            (Version::V311, b"\x20\x02\0\0".as_slice()), // CONNACK from a client
            (Version::V311, b"\x90\x03\0\x01\0"),        // SUBACK from a client
            (Version::V311, b"\xd0\0"),                  // PINGRESP from a client
            (Version::V311, b"\xf0\0"),                  // AUTH in version 3
            (Version::V311, b"\0\0"),                    // packet type 0
            (Version::V311, b"\xc0\x01\0"),              // PINGREQ with content
            (Version::V311, b"\xe0\x01\0"),              // DISCONNECT with content
            (Version::V311, b"\x30\x02\0\0"),            // empty topic
            (Version::V311, b"\x30\x03\0\x01#"),         // wildcard in a topic name
            (Version::V311, b"\x30\x03\0\x01\0"),        // U+0000 in a topic name
            (Version::V311, b"\x30\x04\0\x02\xc3\x28"),  // invalid UTF-8
            (Version::V311, b"\x30\x03\0\x09a"),         // topic longer than the packet
            (Version::V311, b"\x32\x05\0\x01a\0\0"),     // packet id 0
            (Version::V311, b"\x36\x05\0\x01a\0\x01"),   // QoS 3
            (Version::V311, b"\x38\x03\0\x01a"),         // DUP with QoS 0
            (Version::V311, b"\x80\x06\0\x01\0\x01a\0"), // SUBSCRIBE with wrong flags
            (Version::V311, b"\x82\x02\0\x01"),          // SUBSCRIBE without a filter
            (Version::V311, b"\x82\x06\0\x01\0\x01a\x03"), // SUBSCRIBE with QoS 3
            (Version::V311, b"\xa2\x02\0\x01"),          // UNSUBSCRIBE without a filter
            (Version::V311, b"\x50\x02\0\x01"),          // PUBREC for nothing
            (Version::V5, b"\x30\x07\0\x01a\x03\x23\0\x01"), // topic alias that was not offered
            (Version::V5, b"\x30\x06\0\x01a\x02\x0b\x01"), // subscription identifier from a client
            (Version::V5, b"\x30\x05\0\x01a\x09\x01"),   // properties longer than the packet
            (Version::V5, b"\x30\x06\0\x01a\x02\x7f\0"), // unknown property
            (Version::V5, b"\xf0\x02\x18\0"),            // AUTH without a method
        ] {
            assert!(read(version, &mut BytesMut::from(frame)).is_err(), "{version:?} {frame:?}");
        }
    }
}
