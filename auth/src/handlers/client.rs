//! Where a request comes from.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};
use common::http::server::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Address of the client: what the gateway says, who replaces whatever clients say about it, else the other end of the
/// connection. Of an IPv6 address only the network, because whoever has one has all of its addresses.
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let forwarded =
            parts.headers.get(FORWARDED_FOR).and_then(|address| address.to_str().ok()?.parse().ok());
        let peer = || parts.extensions.get().map(|Peer(peer)| peer.ip());
        Ok(Self(network(forwarded.or_else(peer).unwrap_or(Ipv4Addr::UNSPECIFIED.into()))))
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn addresses_are_those_that_the_gateway_forwards() {
        for (forwarded, expected) in [
            (None, "192.0.2.1"),
            (Some("198.51.100.7"), "198.51.100.7"),
            (Some("::ffff:198.51.100.7"), "198.51.100.7"),
            (Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::"),
            (Some("198.51.100.7, 203.0.113.1"), "192.0.2.1"),
            (Some("unknown"), "192.0.2.1"),
            (Some(""), "192.0.2.1"),
        ] {
            let mut request = Request::builder().extension(Peer(([192, 0, 2, 1], 80).into()));
            if let Some(forwarded) = forwarded {
                request = request.header(FORWARDED_FOR, forwarded);
            }
            let mut parts = request.body(()).unwrap().into_parts().0;
            let Ok(ClientAddress(address)) = ClientAddress::from_request_parts(&mut parts, &()).await;
            assert_eq!(address.to_string(), expected, "{forwarded:?}");
        }
    }
}
