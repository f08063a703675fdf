//! Rules without I/O.

pub mod sample;
pub mod timestamp;
