//! The API on one screen.

use axum::{
    Router, middleware,
    routing::{get, post, put},
};
use common::http::{Shape, problem};

use crate::{
    AppState,
    handlers::{actuation, association, credential, device, device_change, template},
};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route(
            "/template",
            get(template::list_templates)
                .post(template::create_template)
                .delete(template::delete_all_templates),
        )
        .route(
            "/template/{id}",
            get(template::get_template).put(template::update_template).delete(template::delete_template),
        )
        .route(
            "/device",
            get(device::list_devices)
                .post(device_change::create_device)
                .delete(device_change::delete_all_devices),
        )
        .route("/device/template/{template}", get(device::list_devices_of_template))
        .route(
            "/device/{id}",
            get(device::get_device).put(device_change::update_device).delete(device_change::delete_device),
        )
        .route("/device/{id}/actuate", put(actuation::actuate_device))
        .route(
            "/device/{id}/template/{template}",
            post(association::add_template).delete(association::remove_template),
        )
        .merge(credentials())
        .with_state(state)
}

/// Device credentials came from another service of dojot, which writes errors in another way.
fn credentials() -> Router<AppState> {
    Router::new()
        .route("/basic-auth/v1/devices/{id}/basic-credentials", post(credential::create_credential))
        .route("/basic-auth/v1/internal/authentication", post(credential::authenticate_device))
        .route_layer(middleware::from_fn(|request, next| problem::render(Shape::Error, request, next)))
}
