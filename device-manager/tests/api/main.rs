//! The API over HTTP, against embedded and real engines.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod actuation;
mod credentials;
mod devices;
mod events;
mod isolation;
mod large_lists;
mod listing;
mod robustness;
mod stack;
mod templates;
