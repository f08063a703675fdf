//! HTTP as every service speaks it.

pub mod admin;
pub mod balance;
pub mod caller;
pub mod client;
pub mod json;
pub mod problem;
pub mod server;
mod service;
mod signature;
mod threads;
mod unread;

pub use caller::{Caller, InternalKey};
pub use json::JsonBody;
pub use problem::{Problem, Shape};
