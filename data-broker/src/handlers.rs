//! Topics and socket.io tokens.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
};
use common::{
    clock::Clock,
    engine::TicketStore,
    http::{Caller, Problem, caller::ServiceCaller},
    wire::Subject,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    config::Config,
    live::{Pass, TOKENS},
    quota::Quota,
    topics::OwnTopics,
};

/// Creates the topic of the caller's tenant for a subject, unless it exists (dojot-api.md 4.2).
pub(crate) async fn allocate_topic(
    ServiceCaller(Caller { tenant, .. }): ServiceCaller,
    Path(subject): Path<String>,
    State(topics): State<OwnTopics>,
    State(quota): State<Quota>,
) -> Result<Json<Value>, Problem> {
    let subject = Subject::parse(&subject).map_err(|error| Problem::bad_request(error.to_string()))?;
    quota.admit(&tenant, &subject).await?;
    let topic = topics.create(&tenant, &subject).await?;
    Ok(Json(json!({ "topic": topic.as_str() })))
}

/// Gives a token that opens one socket of the caller's tenant (dojot-api.md 4.3).
pub(crate) async fn issue_token(
    caller: Caller,
    State(config): State<Arc<Config>>,
    State(tickets): State<TicketStore>,
    State(clock): State<Clock>,
) -> Result<Json<Value>, Problem> {
    let token = Uuid::new_v4().to_string();
    let pass = Pass { caller, issued_ms: clock.now_ms() };
    let pass = serde_json::to_vec(&pass).map_err(Problem::internal)?;
    tickets.put(TOKENS, &token, &pass, Duration::from_secs(config.token_lifetime_s)).await?;
    Ok(Json(json!({ "token": token })))
}
