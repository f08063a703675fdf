//! The API of x509-identity, against embedded and real engines.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod authority;
mod certificates;
#[expect(dead_code, reason = "unit tests use the rest")]
mod csr;
mod events;
mod internal;
mod lists;
mod others;
mod owners;
mod refusals;
mod stack;
mod trust;
