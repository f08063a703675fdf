//! Whole flows, one file each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod durability;
mod isolation;
mod outage;
mod start;
mod tour;
