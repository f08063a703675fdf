//! Rules without I/O.

pub(crate) mod filter;
pub(crate) mod live_event;
