//! The API on one screen.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post},
};

use crate::{
    AppState,
    handlers::{authority, certificates, internal},
};

/// Largest body, in bytes (dojot-connectors.md 2).
const MAX_BODY: usize = 100 * 1024;

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route(
            "/api/v1/certificates",
            post(certificates::issue_certificate).get(certificates::list_certificates),
        )
        .route(
            "/api/v1/certificates/{fingerprint}",
            get(certificates::get_certificate)
                .patch(certificates::change_owner)
                .delete(certificates::revoke_certificate),
        )
        .route("/api/v1/certificates/{fingerprint}/belongsto", delete(certificates::remove_owner))
        .route("/api/v1/ca", get(authority::get_ca))
        .route("/api/v1/ca/crl", get(authority::get_crl))
        .route("/internal/api/v1/server-certificates", post(internal::issue_server_certificate))
        .route("/internal/api/v1/certificates/{fingerprint}", get(internal::get_owner))
        .route("/internal/api/v1/ca-bundle", get(internal::get_ca_bundle))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}
