//! Whole flows, one file each.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and the runner shows what it printed"
)]

mod administration;
mod attacks;
mod dashboard;
mod durability;
mod isolation;
mod outage;
mod removal;
mod revocation;
mod routes;
mod start;
mod tour;
mod two_instances;
