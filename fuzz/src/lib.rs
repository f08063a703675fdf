#![doc = include_str!("../README.md")]
// The unit tests of these files run at home.
#![cfg(not(test))]
#![allow(dead_code, unreachable_pub, reason = "of the files of other crates only a part is used")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is what a target says")]

// The crates that these files belong to bring Kafka, three databases and a mail client along. Compiled with
// instrumentation they would take longer than all other tests, so the files are compiled once more, alone: rules without
// I/O, which need small crates only. They name each other as they do at home.
extern crate self as common;

#[path = "../../common/src/clock.rs"]
mod clock;
#[path = "../../gateway/src/domain/mod.rs"]
mod gateway;
#[path = "../../common/src/wire/mod.rs"]
pub mod wire;

#[path = "."]
mod http {
    #[path = "../../common/src/http/service.rs"]
    pub mod client;
    #[path = "../../common/src/http/signature.rs"]
    pub mod signature;
}

#[path = "."]
mod auth {
    #[path = "../../auth/src/domain/decide.rs"]
    pub mod decide;
    #[path = "../../auth/src/domain/fields.rs"]
    mod fields;
    #[path = "../../auth/src/domain/permission.rs"]
    pub mod permission;
    #[path = "../../auth/src/domain/token.rs"]
    pub mod token;
}

pub mod answer;
pub mod caller;
pub mod graphql;
pub mod headers;
pub mod message;
mod naive;
pub mod path;
pub mod permission;
pub mod request;
pub mod route;
pub mod token;

/// Reads an input, and panics when something is wrong.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Check); 10] = [
    ("answer", answer::check),
    ("caller", caller::check),
    ("graphql", graphql::check),
    ("headers", headers::check),
    ("message", message::check),
    ("path", path::check),
    ("permission", permission::check),
    ("request", request::check),
    ("route", route::check),
    ("token", token::check),
];
