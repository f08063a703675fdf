//! The API on one screen.

use axum::{Router, routing::get};

use crate::{AppState, handlers};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/device/{id}/history", get(handlers::list_samples))
        .route("/device/{id}/history/", get(handlers::list_samples))
        .route("/notifications/history", get(handlers::list_notifications))
        .route("/notifications/history/", get(handlers::list_notifications))
        .with_state(state)
}
