//! The gateway in front of services that only remember what reached them.

mod decisions;
mod forwarding;
mod headers;
mod paths;
mod smuggling;
mod support;
mod tokens;
mod websocket;
