//! The gateway in front of services that only remember what reached them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails should stop its test")]

mod bodies;
mod decisions;
mod forwarding;
mod headers;
mod late_bodies;
mod paths;
mod smuggling;
mod support;
mod tokens;
mod websocket;
