//! SQL. Every method on certificates takes the tenant first.

pub(crate) mod authority;
pub(crate) mod certificates;
mod search;
