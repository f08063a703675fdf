//! Who manages users, and whose.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, request::Parts},
};
use common::http::{Caller, Problem, caller::CallerKind};

use crate::{
    AppState,
    domain::{bootstrap::ADMIN_GROUP_ID, user::Scope},
    storage::{Mandate, Standing, UserRepository},
};

/// A verified caller with what this service knows about him.
pub(crate) struct Actor(pub(super) Mandate);

impl Actor {
    /// Whether the caller may put others into a group: only who is in the group `admin` may make more of them.
    pub(super) fn may_give(&self, group: i64) -> bool {
        group != ADMIN_GROUP_ID || self.0.standing != Standing::Ordinary
    }
}

impl FromRequestParts<AppState> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(StatusCode::UNAUTHORIZED, "AuthenticationError"))?;
        let is_service = caller.kind == CallerKind::Service;
        let standing = if is_service {
            Standing::Ordinary
        } else {
            UserRepository::from_ref(state).standing(caller.user_id).await?
        };
        let scope = if state.config.users_across_tenants || standing == Standing::PlatformAdmin {
            Scope::AllTenants
        } else {
            Scope::Only(caller.tenant.clone())
        };
        let Caller { tenant, user_id, .. } = caller;
        Ok(Self(Mandate { user_id, tenant, standing, scope, is_service }))
    }
}
