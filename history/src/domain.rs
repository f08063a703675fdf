//! Rules without I/O.

pub mod accept;
pub mod csv;
pub mod json;
pub mod question;
