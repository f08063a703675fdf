//! Writes the heads of requests to services.

use axum::http::{HeaderValue, Method};

/// A head that is being written. What http's types hold cannot end a line.
pub(crate) struct Head(Vec<u8>);

/// How long the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is none, and nothing is said of it.
    None,
    /// So many bytes.
    Exact(u64),
    /// In chunks.
    Unknown,
}

impl Head {
    /// Most heads are shorter.
    const USUAL_BYTES: usize = 2048;

    /// Begins with the request line; `target` is path and query.
    pub(crate) fn new(method: &Method, target: &str) -> Self {
        let mut head = Self(Vec::with_capacity(Self::USUAL_BYTES));
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.0.extend_from_slice(part.as_bytes());
        }
        head
    }

    /// Adds a header.
    pub(crate) fn add(&mut self, name: &str, value: &HeaderValue) {
        self.add_bytes(name, value.as_bytes());
    }

    /// Adds a header whose value was written by the gateway.
    pub(crate) fn add_own(&mut self, name: &'static str, value: impl std::fmt::Display) {
        use std::io::Write;
        self.0.extend_from_slice(name.as_bytes());
        // Writing into memory does not fail.
        let _ = write!(self.0, ": {value}\r\n");
    }

    fn add_bytes(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// Says where the body ends, and ends the head.
    pub(crate) fn end(mut self, body: BodyLength) -> Vec<u8> {
        match body {
            BodyLength::None => {}
            BodyLength::Exact(length) => self.add_own("content-length", length),
            BodyLength::Unknown => self.add_bytes("transfer-encoding", b"chunked"),
        }
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_written_as_they_are_read() {
        let mut head = Head::new(&Method::PUT, "/device/a%20b?x=y");
        head.add("host", &HeaderValue::from_static("service:80"));
        head.add_own("x-forwarded-for", std::net::Ipv6Addr::LOCALHOST);
        let text = String::from_utf8(head.end(BodyLength::Exact(3))).unwrap();
        assert_eq!(
            text,
            "PUT /device/a%20b?x=y HTTP/1.1\r\nhost: service:80\r\nx-forwarded-for: ::1\r\ncontent-length: 3\r\n\r\n"
        );
        let end = |body| String::from_utf8(Head::new(&Method::GET, "/").end(body)).unwrap();
        assert_eq!(end(BodyLength::None), "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(end(BodyLength::Unknown), "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    }
}
