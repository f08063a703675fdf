//! Rules, without I/O.

pub(crate) mod ability;
pub(crate) mod bootstrap;
pub(crate) mod decide;
pub(crate) mod fields;
pub(crate) mod group;
pub(crate) mod password;
pub(crate) mod pbkdf2;
pub(crate) mod permission;
pub(crate) mod power;
pub(crate) mod secret;
pub(crate) mod token;
pub(crate) mod turns;
pub(crate) mod user;
