//! Whole flows, one file each.

mod durability;
mod isolation;
mod outage;
mod start;
mod tour;
