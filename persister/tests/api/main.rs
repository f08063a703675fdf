//! From the log to the store, with real engines.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod platform;
mod storing;
