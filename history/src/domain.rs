//! Rules without I/O.

pub(crate) mod accept;
pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod question;
