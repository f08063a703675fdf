//! Requests, one file per resource.

pub(crate) mod authority;
mod body;
pub(crate) mod certificates;
pub(crate) mod internal;
