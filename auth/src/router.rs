//! The API on one screen.

use axum::{
    Router,
    routing::{MethodRouter, delete, get, post},
};

use crate::{
    AppState,
    handlers::{graphql, group, jwks, login, password, pdp, permission, relation, report, tenant, user},
    storage::Relation,
};

pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        // Public: the gateway asks for no token.
        .route("/", post(login::log_in))
        .both("/.well-known/jwks.json", get(jwks::list_keys))
        .both("/refresh", post(login::refresh))
        .both("/password/update", post(password::update_password))
        .both("/password/reset/{user}", post(password::ask_for_password))
        .both("/password/resetlink", post(password::set_password))
        .both("/graphql-auth", graphql::login())
        // Users, for callers whom the gateway has verified and permitted.
        .both("/user", get(user::list_users).post(user::create_user))
        .both("/user/{user}", get(user::get_user).put(user::update_user).delete(user::delete_user))
        // The platform: tenants and signing keys, for such callers too.
        .both("/tenants", get(tenant::overview).post(tenant::create_tenant))
        .both("/tenants/{tenant}", get(tenant::get_tenant).delete(tenant::remove_tenant))
        .both("/keys", post(jwks::rotate))
        // Policy administration, for such callers too.
        .both("/pap/permission", get(permission::list_permissions).post(permission::create_permission))
        .both(
            "/pap/permission/{permission}",
            get(permission::get_permission)
                .put(permission::update_permission)
                .delete(permission::delete_permission),
        )
        .both("/pap/group", get(group::list_groups).post(group::create_group))
        .both(
            "/pap/group/{group}",
            get(group::get_group).put(group::update_group).delete(group::delete_group),
        )
        .both("/pap/usergroup/{user}/{group}", relation::methods(Relation::UserGroup))
        .both("/pap/grouppermissions/{group}/{permission}", relation::methods(Relation::GroupPermission))
        .both("/pap/userpermissions/{user}/{permission}", relation::methods(Relation::UserPermission))
        .both("/pap/user/{user}/directpermissions", get(report::list_direct_permissions))
        .both("/pap/user/{user}/allpermissions", get(report::list_all_permissions))
        .both("/pap/user/{user}/groups", get(report::list_groups_of_user))
        .both("/pap/group/{group}/permissions", get(report::list_permissions_of_group))
        .both("/pap/group/{group}/users", get(report::list_users_of_group))
        // The same for dojot's dashboards.
        .both("/graphql/permissions", graphql::permissions())
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
