//! The keys that sign and verify tokens.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common::{clock::Clock, engine::sql::SqlError, http::Problem, wire::Claims};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use openssl::{error::ErrorStack, rsa::Rsa};
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::warn;
use uuid::Uuid;

use crate::{
    domain::token::{ALGORITHM, TokenError, Unverified},
    storage::{ChangeError, KeyRepository, Mandate, StoredKey},
};

const BITS: u32 = 2048;

/// Signs with the newest key and verifies with all of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Inner>);

struct Inner {
    repository: KeyRepository,
    clock: Clock,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were last read, milliseconds since the epoch.
    read_at: Mutex<i64>,
}

#[derive(Default)]
struct Keys {
    signing: Option<(Header, EncodingKey)>,
    verifying: HashMap<String, DecodingKey>,
    published: Vec<PublishedKey>,
}

/// A key as others may know it (RFC 7517).
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PublishedKey {
    kty: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    kid: String,
    n: String,
    e: String,
}

impl KeyRing {
    /// Tokens may name keys that nobody knows; the database is asked no more often than this for them.
    const READ_AGAIN_AFTER_MS: i64 = 1000;
    /// How often keys of other instances are looked for.
    const READ_EVERY: Duration = Duration::from_mins(1);

    pub(crate) fn new(repository: KeyRepository, clock: Clock) -> Self {
        Self(Arc::new(Inner { repository, clock, keys: RwLock::default(), read_at: Mutex::new(0) }))
    }

    /// Reads the keys, after making the first one when there is none.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        self.read().await?;
        if self.keys().signing.is_none() {
            let key = StoredKey::generate(&self.0.clock).await?;
            self.0.repository.insert_first(&key).await?;
            self.read().await?;
        }
        Ok(())
    }

    /// Makes a new key, which signs from now on. Tokens of the former keys stay good for as long as they would have been.
    /// Returns its name.
    pub(crate) async fn rotate(&self, mandate: &Mandate) -> Result<String, ChangeError> {
        let key = StoredKey::generate(&self.0.clock).await?;
        self.0.repository.insert(mandate, &key).await?;
        self.read().await?;
        Ok(key.kid)
    }

    /// Takes over keys that other instances made, and forgets those that no good token is signed with. For ever.
    pub(crate) async fn keep(self, token_lifetime_s: i64) {
        let first = tokio::time::Instant::now() + Self::READ_EVERY;
        let mut every = tokio::time::interval_at(first, Self::READ_EVERY);
        loop {
            every.tick().await;
            if let Err(error) = self.look_after(token_lifetime_s).await {
                warn!(%error, "signing keys cannot be read for the moment");
            }
        }
    }

    async fn look_after(&self, token_lifetime_s: i64) -> Result<(), SqlError> {
        /// An instance may sign with its former key for so long, which is twice [`KeyRing::READ_EVERY`].
        const LATE_S: i64 = 120;
        let over_ms = self.0.clock.now_ms() - (token_lifetime_s + LATE_S) * 1000;
        self.0.repository.forget(over_ms).await?;
        self.read().await
    }

    /// Signs a token.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, Problem> {
        let keys = self.keys();
        let (header, key) = keys.signing.as_ref().ok_or_else(|| Problem::unavailable("signing key"))?;
        jsonwebtoken::encode(header, claims, key).map_err(Problem::internal)
    }

    /// The claims of a token that one of our keys has signed. Expiry and revocation are the caller's to check.
    pub(crate) async fn verify(&self, token: &str) -> Result<Result<Claims, TokenError>, SqlError> {
        let unverified = match Unverified::parse(token) {
            Ok(unverified) => unverified,
            Err(error) => return Ok(Err(error)),
        };
        if !self.keys().verifying.contains_key(&unverified.key) {
            self.read_again().await?;
        }
        let keys = self.keys();
        let key = keys.verifying.get(&unverified.key).ok_or(TokenError::Signature);
        let not_before_s = unverified.not_before.unwrap_or(i64::MIN);
        let claims = key.and_then(|key| unverified.verify(token, key));
        let is_early = not_before_s > self.0.clock.now_s();
        Ok(claims.and_then(|claims| if is_early { Err(TokenError::NotYet) } else { Ok(claims) }))
    }

    /// The public keys, also that which another instance has made a moment ago.
    pub(crate) async fn published(&self) -> Result<Vec<PublishedKey>, SqlError> {
        self.read_again().await?;
        Ok(self.keys().published.clone())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read_again(&self) -> Result<(), SqlError> {
        let mut read_at = self.0.read_at.lock().await;
        let now = self.0.clock.now_ms();
        if now - *read_at >= Self::READ_AGAIN_AFTER_MS {
            self.read().await?;
            *read_at = now;
        }
        Ok(())
    }

    async fn read(&self) -> Result<(), SqlError> {
        let keys = Keys::of(&self.0.repository.list().await?).map_err(|error| {
            SqlError::Failed(sqlx::Error::Protocol(format!("a signing key cannot be read: {error}")))
        })?;
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}

impl Keys {
    /// From the stored keys, the newest first.
    fn of(stored: &[StoredKey]) -> Result<Self, ErrorStack> {
        let mut keys = Self::default();
        for StoredKey { kid, private_key, .. } in stored {
            let key = Rsa::private_key_from_der(private_key)?;
            let (n, e) = (key.n().to_vec(), key.e().to_vec());
            keys.verifying.insert(kid.clone(), DecodingKey::from_rsa_raw_components(&n, &e));
            keys.published.push(PublishedKey {
                kty: "RSA",
                purpose: "sig",
                alg: ALGORITHM,
                kid: kid.clone(),
                n: BASE64_URL_SAFE_NO_PAD.encode(&n),
                e: BASE64_URL_SAFE_NO_PAD.encode(&e),
            });
            if keys.signing.is_none() {
                let mut header = Header::new(Algorithm::RS256);
                header.kid = Some(kid.clone());
                keys.signing = Some((header, EncodingKey::from_rsa_der(private_key)));
            }
        }
        Ok(keys)
    }
}

impl StoredKey {
    async fn generate(clock: &Clock) -> Result<Self, SqlError> {
        let generated = tokio::task::spawn_blocking(|| Rsa::generate(BITS)?.private_key_to_der()).await;
        let failed = |error: String| SqlError::Failed(sqlx::Error::Protocol(error));
        let private_key = generated
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { kid: Uuid::new_v4().simple().to_string(), private_key, created_ms: clock.now_ms() })
    }
}
