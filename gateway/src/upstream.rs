//! Where services are.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use common::http::client::{Service, Urls};
use tracing::warn;

/// Address of a service, read from its URL.
#[derive(Debug)]
pub(crate) struct Address {
    /// Host and port.
    pub(crate) authority: Authority,
    /// The same as a header.
    pub(crate) host: HeaderValue,
    /// Path of the URL, without a slash at its end; usually empty.
    pub(crate) base: String,
}

/// Addresses of the services. URLs are read again every second, not for every request.
#[derive(Debug)]
pub(crate) struct Upstreams {
    urls: Urls,
    known: RwLock<HashMap<Service, Known>>,
}

#[derive(Debug)]
struct Known {
    address: Arc<Address>,
    until_ms: i64,
}

impl Upstreams {
    const KEEP_MS: i64 = 1_000;

    pub(crate) fn new(urls: Urls) -> Self {
        Self { urls, known: RwLock::default() }
    }

    /// The address of a service, if its URL is known.
    pub(crate) fn address(&self, service: Service, now_ms: i64) -> Option<Arc<Address>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&service).filter(|known| now_ms < known.until_ms) {
            return Some(Arc::clone(&known.address));
        }
        drop(known);
        let url = self.urls.get(service)?;
        let address = Arc::new(Address::parse(&url)?);
        let known = Known { address: Arc::clone(&address), until_ms: now_ms + Self::KEEP_MS };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(service, known);
        Some(address)
    }
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let parsed: Option<Uri> = url.parse().ok();
        let parts = parsed.map(Uri::into_parts).filter(|parts| parts.scheme == Some(Scheme::HTTP));
        let Some((parts, authority)) =
            parts.and_then(|mut parts| parts.authority.take().map(|host| (parts, host)))
        else {
            warn!(url, "the URL of a service must begin with http://");
            return None;
        };
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        let base = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned());
        Some(Self { authority, host, base: base.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        for (url, expected) in [
            ("http://127.0.0.1:5000", Some(("127.0.0.1:5000", ""))),
            ("http://auth/", Some(("auth", ""))),
            ("http://[::1]:80/base/", Some(("[::1]:80", "/base"))),
            ("https://auth", None),
            ("auth:5000", None),
            ("", None),
        ] {
            let address = Address::parse(url);
            let read = address.as_ref().map(|address| (address.authority.as_str(), address.base.as_str()));
            assert_eq!(read, expected, "{url}");
        }
    }
}
