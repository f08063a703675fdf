#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod clock;
pub mod config;
pub mod consume;
pub mod engine;
pub mod http;
pub mod revocation;
pub mod shutdown;
pub mod slots;
pub mod telemetry;
pub mod tenancy;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;
