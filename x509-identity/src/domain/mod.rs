//! Rules without I/O.

pub mod authority;
pub mod fingerprint;
pub mod request;

pub use authority::{Authority, Issued};
pub use fingerprint::Fingerprint;
pub use request::{Request, RequestError};
