//! The API on one screen.

use axum::{
    Router,
    routing::{MethodRouter, delete, get, post},
};

use crate::{
    AppState,
    handlers::{jwks, login, pdp, tenant, user},
};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        // Public: the gateway asks for no token.
        .route("/", post(login::log_in))
        .both("/.well-known/jwks.json", get(jwks::list_keys))
        // Users, for callers whom the gateway has verified and permitted.
        .both("/user", get(user::list_users).post(user::create_user))
        .both("/user/{user}", get(user::get_user).put(user::update_user).delete(user::delete_user))
        // Between our own services.
        .both("/pdp", post(pdp::decide))
        .both("/admin/tenants", get(tenant::list_tenants))
        .both("/admin/removals/{tenant}/{generation}", delete(tenant::confirm_removal))
        .with_state(state)
}

trait Both {
    /// A route that also works with a trailing slash (dojot-api.md 2).
    fn both(self, path: &str, methods: MethodRouter<AppState>) -> Self;
}

impl Both for Router<AppState> {
    fn both(self, path: &str, methods: MethodRouter<AppState>) -> Self {
        self.route(path, methods.clone()).route(&format!("{path}/"), methods)
    }
}
