//! The API of auth, against embedded and real engines.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "a helper that fails should stop its test, and bodies are written where they are sent"
)]

mod first_start;
mod flood;
mod graphql;
mod groups;
mod login;
mod mailbox;
mod passwords;
mod pdp;
mod permissions;
mod relations;
mod rights;
mod sessions;
mod stack;
mod tenants;
mod users;
