//! The rules of the agent: values in, values out. No I/O, no async.

pub(crate) mod dialect;
pub(crate) mod identity;
pub(crate) mod payload;
pub(crate) mod recent;
