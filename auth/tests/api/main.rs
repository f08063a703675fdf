//! The API of auth, against embedded and real engines.

mod first_start;
mod login;
mod pdp;
mod stack;
mod tenants;
mod users;
