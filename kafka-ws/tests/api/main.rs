//! Tickets and websockets, with real sockets.

mod limits;
mod sockets;
mod support;
mod tickets;
