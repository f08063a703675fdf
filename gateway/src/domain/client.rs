//! Which address a request comes from. Headers are believed only when a proxy of ours has written them.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{framing, headers::FORWARDED_FOR};

/// Proxies in front of the gateway, and where they write whom they speak for.
#[derive(Debug, Clone)]
pub(crate) struct TrustedProxies {
    networks: Vec<IpNet>,
    header: AddressHeader,
}

/// The header in which proxies name the address before them. Only one is read: proxies that set one may pass the other
/// as the client wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressHeader {
    /// A list of addresses.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl TrustedProxies {
    /// Proxies in these networks are believed.
    pub(crate) fn new(networks: Vec<IpNet>, header: AddressHeader) -> Self {
        Self { networks, header }
    }

    /// The client: the nearest address, from the gateway outwards, that is no proxy of ours.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.networks.is_empty() || !self.trusts(client) {
            return client;
        }
        let name = match self.header {
            AddressHeader::XForwardedFor => FORWARDED_FOR,
            AddressHeader::Forwarded => header::FORWARDED,
        };
        let elements: Vec<&str> = framing::tokens(headers, &name).collect();
        for element in elements.into_iter().rev() {
            // What nobody can read was not written by the proxy: the last one that is known it is.
            let Some(address) = self.read(element) else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Whether this is the address of a proxy of ours.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    fn read(&self, element: &str) -> Option<IpAddr> {
        match self.header {
            AddressHeader::XForwardedFor => address(element),
            AddressHeader::Forwarded => {
                let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
                let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
                address(value.trim_matches('"'))
            }
        }
    }
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(header: AddressHeader, peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        TrustedProxies::new(networks.into(), header).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        const XFF: &str = "x-forwarded-for";
        for (peer, lines, expected) in [
            ("192.0.2.1", vec![(XFF, "198.51.100.7")], "192.0.2.1"),
            ("192.0.2.1", vec![], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec![(XFF, "198.51.100.7")], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec![(XFF, "198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "::ffff:198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "1.2.3.4, 198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "1.2.3.4, 198.51.100.7, 10.9.9.9")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "1.2.3.4"), (XFF, "198.51.100.7,10.9.9.9")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "10.1.1.1, 10.2.2.2")], "10.1.1.1"),
            ("10.0.0.1", vec![(XFF, "198.51.100.7:4711")], "198.51.100.7"),
            ("10.0.0.1", vec![(XFF, "[2001:db8::1]:4711")], "2001:db8::1"),
            ("10.0.0.1", vec![(XFF, "198.51.100.7, unknown")], "10.0.0.1"),
            ("10.0.0.1", vec![(XFF, "198.51.100.7, unknown, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", vec![("forwarded", "for=198.51.100.7")], "10.0.0.1"),
            ("fd00::1", vec![(XFF, "2001:db8::1")], "2001:db8::1"),
        ] {
            assert_eq!(client(AddressHeader::XForwardedFor, peer, &lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        for (value, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("proto=https;For=198.51.100.7;by=10.0.0.1", "198.51.100.7"),
            (r#"for="[2001:db8::1]:4711""#, "2001:db8::1"),
            (r#"for="[2001:db8::1]""#, "2001:db8::1"),
            ("for=1.2.3.4, for=198.51.100.7, for=10.0.0.9", "198.51.100.7"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(
                client(AddressHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]),
                expected,
                "{value}"
            );
        }
        let both = [("forwarded", "for=198.51.100.7"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(client(AddressHeader::Forwarded, "10.0.0.1", &both), "198.51.100.7");
    }
}
