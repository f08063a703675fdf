//! The attack list: what must not be possible, class by class. `tests/README.md` says where each class is tested, here and in
//! the services.

mod exhaustion;
mod inputs;
mod internal;
mod lifetimes;
mod login;
mod paths;
mod smuggling;
mod tokens;
