//! The policy decision point.

use std::sync::Arc;

use axum::{Json, extract::State};
use common::{
    clock::Clock,
    http::{Problem, caller::ServiceCaller},
    wire::Claims,
};
use serde_json::{Value, json};

use super::body::Document;
use crate::{
    access::{Access, AccessCache},
    domain::token::TokenError,
    keys::KeyRing,
};

/// Token and path together. Only our services ask.
const MAX_QUESTION_BYTES: usize = 1 << 20;

/// Tells the gateway who holds a token and whether the request is permitted (dojot-api.md 2.7).
pub(crate) async fn decide(
    _: ServiceCaller,
    State(keys): State<KeyRing>,
    State(access): State<AccessCache>,
    State(clock): State<Clock>,
    Document(body): Document<MAX_QUESTION_BYTES>,
) -> Result<Json<Value>, Problem> {
    let action = member(&body, "action", "Missing action")?;
    let token = member(&body, "jwt", "Missing JWT")?;
    let resource = member(&body, "resource", "Missing resource")?;
    let fresh = body.get("fresh").and_then(Value::as_bool).unwrap_or(false);
    let (claims, holder) = holder(&keys, &access, &clock, token, fresh).await?;
    let decision = holder.rules.decide(action, resource).as_str();
    metrics::counter!("auth_decisions_total", "decision" => decision).increment(1);
    Ok(Json(json!({
        "decision": decision,
        "status": "ok",
        "tenant": holder.tenant,
        "generation": holder.generation,
        "username": holder.username,
        "userid": claims.userid,
        "expires": claims.exp,
    })))
}

/// What a good token claims, and who holds it. A `fresh` answer is not from memory.
pub(super) async fn holder(
    keys: &KeyRing,
    access: &AccessCache,
    clock: &Clock,
    token: &str,
    fresh: bool,
) -> Result<(Claims, Arc<Access>), Problem> {
    let claims = keys.verify(token).await??;
    if claims.exp <= clock.now_s() {
        return Err(TokenError::Expired.into());
    }
    let holder = access.of(claims.userid, fresh).await?;
    let holder = holder
        .filter(|user| user.credential_key == claims.iss && user.tenant.as_str() == claims.service)
        .ok_or(TokenError::UnknownIssuer)?;
    Ok((claims, holder))
}

fn member<'a>(body: &'a Value, key: &str, missing: &str) -> Result<&'a str, Problem> {
    let text = body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| Problem::bad_request(missing))
}
