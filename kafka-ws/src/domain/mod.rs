//! Rules without I/O.

pub(crate) mod close;
pub(crate) mod frame;
pub(crate) mod lifetime;
pub(crate) mod query;
pub(crate) mod ticket;
