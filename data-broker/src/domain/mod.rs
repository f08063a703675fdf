//! Rules without I/O.

pub mod filter;
pub mod live_event;
