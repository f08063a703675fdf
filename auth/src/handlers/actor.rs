//! Who manages users, and whose.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, request::Parts},
};
use common::http::{Caller, Problem, caller::CallerKind};

use crate::{
    AppState,
    domain::{bootstrap::ADMIN_GROUP_ID, user::Scope},
    storage::{Standing, UserRepository},
};

/// A verified caller with what this service knows about him.
pub(crate) struct Actor {
    pub(super) user_id: i64,
    pub(super) scope: Scope,
    standing: Standing,
}

impl Actor {
    /// Whether the caller may put others into a group: only who is in the group `admin` may make more of them.
    pub(super) fn may_give(&self, group: i64) -> bool {
        group != ADMIN_GROUP_ID || self.standing != Standing::Ordinary
    }
}

impl FromRequestParts<AppState> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(StatusCode::UNAUTHORIZED, "AuthenticationError"))?;
        let standing = match caller.kind {
            CallerKind::User => UserRepository::from_ref(state).standing(caller.user_id).await?,
            CallerKind::Service => Standing::Ordinary,
        };
        let scope = if state.config.users_across_tenants || standing == Standing::PlatformAdmin {
            Scope::AllTenants
        } else {
            Scope::Only(caller.tenant)
        };
        Ok(Self { user_id: caller.user_id, scope, standing })
    }
}
