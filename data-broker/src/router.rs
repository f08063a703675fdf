//! The API on one screen.

use axum::{
    Router,
    routing::{any, get},
};

use crate::{
    AppState, handlers,
    live::{Door, enter},
};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/topic/{subject}", get(handlers::allocate_topic))
        .route("/socketio", get(handlers::issue_token))
        .with_state(state)
}

/// Where sockets are opened.
pub(crate) fn socketio(door: Door) -> Router {
    Router::new()
        .route("/socket.io", any(enter))
        .route("/socket.io/", any(enter))
        .route("/socket.io/{*rest}", any(enter))
        .with_state(door)
}
