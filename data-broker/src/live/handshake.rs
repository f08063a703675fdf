//! What the query of an Engine.IO request says.

/// The first request of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) protocol: Protocol,
    pub(super) transport: Transport,
}

/// Version of Engine.IO: 3 is spoken by socket.io 2.x, 4 by later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    V3,
    V4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Polling,
    Websocket,
}

/// Why a request is no handshake: code and message of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) u8, pub(super) &'static str);

impl Handshake {
    pub(super) fn parse(query: &str) -> Result<Self, Malformed> {
        let protocol = match parameter(query, "EIO") {
            Some("3") => Protocol::V3,
            Some("4") => Protocol::V4,
            _ => return Err(Malformed(5, "Unsupported protocol version")),
        };
        let transport = match parameter(query, "transport") {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::Websocket,
            _ => return Err(Malformed(0, "Transport unknown")),
        };
        Ok(Self { protocol, transport })
    }
}

/// The first value of a parameter.
pub(super) fn parameter<'a>(query: &'a str, wanted: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_says_its_protocol_and_its_transport() {
        let polling = Handshake { protocol: Protocol::V3, transport: Transport::Polling };
        assert_eq!(Handshake::parse("EIO=3&transport=polling&token=x"), Ok(polling));
        let websocket = Handshake { protocol: Protocol::V4, transport: Transport::Websocket };
        assert_eq!(Handshake::parse("token=x&transport=websocket&EIO=4"), Ok(websocket));
        for (query, code) in
            [("", 5), ("EIO=5&transport=polling", 5), ("EIO=4", 0), ("EIO=4&transport=carrier", 0)]
        {
            assert_eq!(Handshake::parse(query).map_err(|Malformed(code, _)| code), Err(code), "{query}");
        }
    }
}
