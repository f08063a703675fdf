//! Who manages users and rights, and whose.

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, request::Parts},
};
use common::http::{Caller, Problem, caller::CallerKind, server::RequestId};

use crate::{
    AppState,
    domain::user::Scope,
    storage::{Mandate, Standing, UserRepository},
};

/// A verified caller with what this service knows about him.
pub(crate) struct Actor(pub(super) Mandate);

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
        let request_id = parts.extensions.get().map(|id: &RequestId| id.as_str().to_owned());
        let Caller { tenant, user, user_id, .. } = caller;
        Ok(Self(Mandate { user_id, user, tenant, standing, scope, is_service, request_id }))
    }
}
