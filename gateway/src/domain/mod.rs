//! Rules without I/O.

pub(crate) mod answer;
pub(crate) mod bearer;
pub(crate) mod budget;
pub(crate) mod client;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod path;
pub(crate) mod route;
mod route_file;
