#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on should say why and stop"
)]

pub mod api;
pub mod command;
pub mod endpoints;
pub mod forger;
pub mod listener;
pub mod memory;
pub mod mqtt;
pub mod publisher;
pub mod raw;
pub mod stack;

pub use api::Api;
pub use publisher::Publisher;
pub use stack::Stack;
