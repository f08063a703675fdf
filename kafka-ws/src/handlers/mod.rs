//! What the routes do.

pub(crate) mod subscription;
pub(crate) mod ticket;
