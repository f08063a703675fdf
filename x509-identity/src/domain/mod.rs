//! Rules without I/O.

pub(crate) mod authority;
pub(crate) mod filter;
pub(crate) mod fingerprint;
pub(crate) mod names;
pub(crate) mod query;
pub(crate) mod request;

#[cfg(test)]
#[path = "../../tests/api/csr.rs"]
pub(crate) mod csr;

pub(crate) use authority::{Authority, Issued};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use request::{Request, RequestError};
