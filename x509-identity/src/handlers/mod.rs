//! Requests, one file per resource.

pub(crate) mod authority;
pub(crate) mod certificates;
pub(crate) mod internal;
