//! The gateway in front of services that only remember what reached them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails should stop its test")]

mod answers;
mod bodies;
mod connections;
mod decisions;
mod forwarding;
mod headers;
mod instances;
mod late_bodies;
mod limits;
mod paths;
mod route_file;
mod smuggling;
mod support;
mod tokens;
mod websocket;
