//! May they? The PDP says so, and is asked again only when its answer may have changed.

use std::{
    borrow::Cow,
    hash::{Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use axum::http::{Method, StatusCode};
use common::{
    clock::Clock,
    http::{
        Caller,
        caller::CallerKind,
        client::{InternalClient, Service},
    },
    wire::Tenant,
};
use metrics::Counter;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use tracing::warn;

use crate::{
    SERVICE,
    admission::Admission,
    config::Config,
    domain::bearer::NoToken,
    error::Refusal,
    validity::{Stamp, Validity},
};

/// Asks the PDP and remembers what it said.
pub(crate) struct Decider {
    client: InternalClient,
    clock: Clock,
    asker: Caller,
    ttl_ms: i64,
    validity: Arc<Validity>,
    cache: Cache<u128, Remembered, RandomState>,
    key: [u8; 16],
    hits: Counter,
    misses: Counter,
}

#[derive(Clone)]
struct Remembered {
    decision: Decision,
    stamp: Stamp,
    until_ms: i64,
}

#[derive(Clone)]
struct Decision {
    admission: Arc<Admission>,
    is_permit: bool,
}

impl Decision {
    fn permitted(self, needs_permit: bool) -> Result<Arc<Admission>, Refusal> {
        if self.is_permit || !needs_permit {
            Ok(self.admission)
        } else {
            Err(Refusal::Forbidden(Arc::clone(&self.admission.caller)))
        }
    }
}

/// What is asked, with the names of the contract (dojot-api.md 2.7).
#[derive(Serialize)]
struct Question<'a> {
    jwt: &'a str,
    action: &'a str,
    resource: Cow<'a, str>,
    /// Asks for an answer from the database instead of from memory.
    fresh: bool,
}

#[derive(Deserialize)]
struct Answer {
    decision: String,
    tenant: String,
    username: String,
    userid: i64,
    expires: i64,
    #[serde(default)]
    generation: i64,
}

#[derive(Deserialize)]
struct RefusedToken {
    message: String,
}

impl Decider {
    pub(crate) fn new(
        config: &Config,
        client: InternalClient,
        clock: Clock,
        validity: Arc<Validity>,
    ) -> Self {
        let ttl = Duration::from_secs(u64::from(config.decision_cache_ttl_s));
        let cache = Cache::builder().max_capacity(config.decision_cache_entries).time_to_live(ttl);
        Self {
            client,
            clock,
            asker: Caller::service(SERVICE, &Tenant::management()),
            ttl_ms: ttl.as_millis() as i64,
            validity,
            cache: cache.build_with_hasher(RandomState::new()),
            key: rand::random(),
            hits: metrics::counter!("gateway_decision_cache_hits_total"),
            misses: metrics::counter!("gateway_decision_cache_misses_total"),
        }
    }

    /// The caller whom a token names, if the PDP permits the request or that is not needed. `path` is normalised.
    pub(crate) async fn decide(
        &self,
        token: &str,
        method: &Method,
        path: &str,
        needs_permit: bool,
    ) -> Result<Arc<Admission>, Refusal> {
        let now = self.clock.now_ms();
        let key = self.key(token, method, path);
        // Taken before the question, so that a revocation that overtakes the answer is noticed.
        let stamp = self.validity.stamp(now);
        let known = stamp.and_then(|_| self.cache.get(&key)).filter(|known| self.still_holds(known, now));
        let decision = if let Some(known) = known {
            self.hits.increment(1);
            known.decision
        } else {
            self.misses.increment(1);
            let fresh = self.validity.wants_fresh(now);
            let decision = self.ask(token, method, path, fresh).await?;
            self.remember(key, &decision, stamp);
            decision
        };
        decision.permitted(needs_permit)
    }

    /// Asks the PDP afresh about a request that was let through: no error while it would be, for the same caller.
    pub(crate) async fn confirm(
        &self,
        token: &str,
        method: &Method,
        path: &str,
        caller: &Caller,
        needs_permit: bool,
    ) -> Result<(), Refusal> {
        let decision = self.ask(token, method, path, true).await?;
        let now = &decision.admission.caller;
        if (&now.tenant, &now.user, now.user_id) != (&caller.tenant, &caller.user, caller.user_id) {
            // Signed for somebody who is not there any more.
            return Err(NoToken::Missing.into());
        }
        decision.permitted(needs_permit).map(drop)
    }

    fn still_holds(&self, known: &Remembered, now: i64) -> bool {
        now < known.until_ms && self.validity.holds(known.stamp, known.decision.admission.caller.user_id)
    }

    fn remember(&self, key: u128, decision: &Decision, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        let now = self.clock.now_ms();
        let until_ms = decision.admission.caller.expires_s.saturating_mul(1000).min(now + self.ttl_ms);
        let known = Remembered { decision: decision.clone(), stamp, until_ms };
        if self.still_holds(&known, now) {
            self.cache.insert(key, known);
        }
    }

    async fn ask(&self, token: &str, method: &Method, path: &str, fresh: bool) -> Result<Decision, Refusal> {
        let question = Question { jwt: token, action: method.as_str(), resource: resource(path), fresh };
        let answer = self.client.exchange(Service::Auth, "/pdp", &self.asker, &question).await;
        let (status, body) = answer.map_err(|error| {
            warn!(%error, "the PDP cannot be asked, so the answer is no");
            Refusal::NoDecision
        })?;
        match status {
            StatusCode::OK => self.read(&body),
            StatusCode::UNAUTHORIZED => {
                let refused: RefusedToken = serde_json::from_slice(&body).map_err(unreadable)?;
                Err(Refusal::Token(Cow::Owned(refused.message)))
            }
            status => Err(unreadable(format!("status {status}"))),
        }
    }

    fn read(&self, body: &[u8]) -> Result<Decision, Refusal> {
        let answer: Answer = serde_json::from_slice(body).map_err(unreadable)?;
        let is_permit = match answer.decision.as_str() {
            "permit" => true,
            "deny" => false,
            other => return Err(unreadable(format!("decision {other:?}"))),
        };
        if answer.expires <= self.clock.now_s() {
            // The clocks of auth and gateway differ a little.
            return Err(Refusal::Token(Cow::Borrowed("token expired")));
        }
        let caller = Caller {
            tenant: Tenant::parse(&answer.tenant).map_err(unreadable)?,
            user: answer.username,
            user_id: answer.userid,
            kind: CallerKind::User,
            expires_s: answer.expires,
            generation: answer.generation,
        };
        Ok(Decision { admission: Arc::new(Admission::of(caller)), is_permit })
    }

    /// 128 bits under a key that nobody knows: the token itself is not kept.
    fn key(&self, token: &str, method: &Method, path: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for part in [token, method.as_str(), path] {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        hasher.finish128().as_u128()
    }
}

fn unreadable(what: impl std::fmt::Display) -> Refusal {
    warn!(%what, "the PDP gave an answer that cannot be read, so the answer is no");
    Refusal::NoDecision
}

/// How permissions see a path: with a slash at its end (dojot-api.md 1.3).
pub(crate) fn resource(path: &str) -> Cow<'_, str> {
    if path.ends_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("{path}/")) }
}
