//! The API on one screen.

use axum::{Router, routing::get};
use common::http::Problem;

use crate::{
    AppState,
    handlers::{subscription, ticket},
};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/kafka-ws/v1/ticket", get(ticket::issue_ticket))
        .route("/kafka-ws/v1/topics/{topic}", get(subscription::subscribe))
        // As dojot's service: what has no handler does not exist, whatever the method.
        .method_not_allowed_fallback(async || Problem::not_found("Not Found"))
        .with_state(state)
}
