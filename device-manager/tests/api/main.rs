//! The API over HTTP, against embedded and real engines.

mod actuation;
mod credentials;
mod devices;
mod events;
mod isolation;
mod listing;
mod robustness;
mod stack;
mod templates;
