//! Rules without I/O.

pub mod authority;
pub mod filter;
pub mod fingerprint;
pub mod names;
pub mod query;
pub mod request;

#[cfg(test)]
#[path = "../../tests/api/csr.rs"]
pub(crate) mod csr;

pub use authority::{Authority, Issued};
pub use fingerprint::Fingerprint;
pub use request::{Request, RequestError};
