//! Tickets.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, header},
};
use common::{
    clock::Clock,
    engine::TicketStore,
    http::{Caller, Problem, caller::CallerKind},
};
use serde::Serialize;

use crate::{
    TICKETS,
    config::Config,
    domain::ticket::{Pass, Ticket},
};

/// `{"ticket": "…"}`.
#[derive(Serialize)]
pub(crate) struct TicketOut {
    ticket: String,
}

/// Issues a ticket that opens one socket.
pub(crate) async fn issue_ticket(
    caller: Caller,
    State(config): State<Arc<Config>>,
    State(tickets): State<TicketStore>,
    State(clock): State<Clock>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<TicketOut>), Problem> {
    if caller.kind != CallerKind::User {
        return Err(Problem::invalid_token());
    }
    let ticket = Ticket::random();
    let pass = serde_json::to_vec(&Pass::of(&caller, clock.now_ms())).map_err(Problem::internal)?;
    let lifetime = Duration::from_secs(config.ticket_lifetime_s);
    tickets.put(TICKETS, ticket.as_str(), &pass, lifetime).await?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(TicketOut { ticket: ticket.as_str().to_owned() })))
}
