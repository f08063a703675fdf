//! The seams to what stores things. Services see these types and never a driver.

pub mod event_log;
pub mod history_store;
pub mod outbox;
pub mod purge;
pub mod shared_tail;
pub mod sql;
pub mod ticket_store;

pub use event_log::EventLog;
pub use history_store::HistoryStore;
pub use shared_tail::{SharedTail, TailLease};
pub use sql::{Sql, SqlEngine};
pub use ticket_store::TicketStore;

use crate::{
    clock::Clock,
    http::{admin::Readiness, client::InternalClient, server::HttpSettings},
    shutdown::Shutdown,
};

/// Everything that a service needs from outside itself. One per process, shared by its services.
#[derive(Clone)]
pub struct Engines {
    /// Records: one topic per tenant and subject.
    pub log: EventLog,
    /// Relational databases, one per service.
    pub sql: SqlEngine,
    /// Readings over time.
    pub history: HistoryStore,
    /// Single-use secrets with an expiry.
    pub tickets: TicketStore,
    /// Limits of every HTTP listener.
    pub http: HttpSettings,
    /// Calls to our other services, and the key that signs them.
    pub client: InternalClient,
    /// The time.
    pub clock: Clock,
    /// What is ready and what is not, for `/health/ready`.
    pub readiness: Readiness,
    /// Owner of every task.
    pub shutdown: Shutdown,
}
