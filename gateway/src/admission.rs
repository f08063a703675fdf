//! Who was admitted, and what services are shown of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::{HeaderValue, Method};
use common::{
    clock::Clock,
    http::{Caller, InternalKey},
};

/// A caller whom the PDP knows, for requests with one method to one path.
pub(crate) struct Admission {
    pub(crate) caller: Arc<Caller>,
    /// Clients ask the same again and again.
    signed: ArcSwapOption<Signed>,
}

/// The signed caller of a request.
struct Signed {
    target: String,
    header: HeaderValue,
    at_ms: i64,
}

impl Admission {
    /// Longer paths and queries are not remembered: each decision would keep one.
    const MAX_TARGET_BYTES: usize = 512;
    /// How long a signature is used again: much shorter than it is good.
    const REUSE_MS: i64 = 1_000;

    pub(crate) fn of(caller: Caller) -> Self {
        Self { caller: Arc::new(caller), signed: ArcSwapOption::empty() }
    }

    /// The header that names the caller for a request; always the same method, so only path and query are compared.
    pub(crate) fn sign(
        &self,
        key: &InternalKey,
        method: &Method,
        target: &str,
        clock: &Clock,
    ) -> HeaderValue {
        let now_ms = clock.now_ms();
        let known = self.signed.load();
        let is_good = |signed: &&Arc<Signed>| {
            (0..Self::REUSE_MS).contains(&(now_ms - signed.at_ms)) && signed.target == target
        };
        if let Some(signed) = known.as_ref().filter(is_good) {
            return signed.header.clone();
        }
        let header = key.sign(method, target, &self.caller, clock);
        if target.len() > Self::MAX_TARGET_BYTES {
            return header;
        }
        let signed = Signed { target: target.to_owned(), header: header.clone(), at_ms: now_ms };
        self.signed.store(Some(Arc::new(signed)));
        header
    }
}

#[cfg(test)]
mod tests {
    use common::wire::Tenant;

    use super::*;

    #[test]
    fn a_signature_is_used_again_for_the_same_target_and_not_for_long() {
        let clock = Clock::fixed(0);
        let key = InternalKey::new(&"k".repeat(32)).unwrap();
        let admission = Admission::of(Caller::service("test", &Tenant::management()));
        let sign = |target| admission.sign(&key, &Method::GET, target, &clock);
        let first = sign("/device?a=1");
        clock.advance(Admission::REUSE_MS - 1);
        assert_eq!(sign("/device?a=1"), first);
        let other = sign("/device?a=2");
        assert!(other != first && key.verify(&Method::GET, "/device?a=2", &other, &clock).is_some());
        clock.advance(Admission::REUSE_MS);
        let long = format!("/device?{}", "a".repeat(Admission::MAX_TARGET_BYTES));
        sign(&long);
        assert!(
            admission.signed.load().as_ref().is_some_and(|signed| signed.target != long),
            "it would be kept"
        );
        clock.advance(Admission::REUSE_MS);
        let later = sign("/device?a=2");
        assert!(later != other && key.verify(&Method::GET, "/device?a=2", &later, &clock).is_some());
    }
}
