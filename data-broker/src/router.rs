//! The API on one screen.

use axum::{Router, routing::get};

use crate::{AppState, handlers};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/topic/{subject}", get(handlers::allocate_topic))
        .route("/socketio", get(handlers::issue_token))
        .with_state(state)
}
