//! The API of x509-identity, against embedded and real engines.

mod authority;
mod certificates;
mod csr;
mod events;
mod internal;
mod lists;
mod owners;
mod refusals;
mod stack;
mod trust;
