//! Tickets and websockets, with real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails should stop its test"
)]

mod limits;
mod sockets;
mod support;
mod tickets;
