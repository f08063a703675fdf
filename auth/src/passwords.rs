//! Password hashes. They are slow on purpose, so there is one at a time per core and a bounded queue before them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use common::http::Problem;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords {
    cores: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

/// Belongs to no password; its parameters are those of [`Argon2::default`].
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

impl Passwords {
    /// At most `queue` calls wait; the others are refused.
    pub(crate) fn new(queue: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cores: Arc::new(Semaphore::new(cores)), waiting: Arc::default(), queue }
    }

    /// Hashes a password with argon2id and OWASP's parameters (19 MiB, 2 passes).
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Problem> {
        let salt: [u8; 16] = rand::rng().random();
        let hashed = self.run(move || {
            let salt = SaltString::encode_b64(&salt)?;
            let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt)?;
            Ok::<_, argon2::password_hash::Error>(hash.to_string())
        });
        hashed.await?.map_err(|error| Problem::internal(format!("cannot hash a password: {error}")))
    }

    /// Whether the password belongs to the hash. Without a hash the answer is no, after the same time.
    pub(crate) async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, Problem> {
        let exists = hash.is_some();
        let matches = self.run(move || {
            let hash = hash.as_deref().unwrap_or(NOBODY);
            PasswordHash::new(hash).is_ok_and(|hash| {
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok()
            })
        });
        Ok(matches.await? && exists)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let core = self.core().await?;
        let work = move || {
            let result = work();
            // Kept until the work is done, even when nobody waits for it any more.
            drop(core);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(Problem::internal)
    }

    async fn core(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let waits = Waits::begin(&self.waiting);
        if waits.ahead >= self.queue + self.cores.available_permits() {
            metrics::counter!("auth_password_checks_refused_total").increment(1);
            return Err(Problem::unavailable("too many password checks are waiting"));
        }
        Arc::clone(&self.cores).acquire_owned().await.map_err(Problem::internal)
    }
}

/// Counts one that waits, until it is dropped.
struct Waits {
    waiting: Arc<AtomicUsize>,
    ahead: usize,
}

impl Waits {
    fn begin(waiting: &Arc<AtomicUsize>) -> Self {
        let ahead = waiting.fetch_add(1, Ordering::Relaxed);
        Self { waiting: Arc::clone(waiting), ahead }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = Passwords::new(8);
        let hash = passwords.hash("s3cret".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("s3cret".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("s3cre".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("s3cret".into(), None).await.unwrap());
        assert!(!passwords.verify("x".into(), Some("rubbish".to_owned())).await.unwrap());
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_any() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let wrong = Argon2::default().verify_password(b"x", &nobody);
        assert!(matches!(wrong, Err(argon2::password_hash::Error::Password)), "{wrong:?}");
    }

    #[tokio::test]
    async fn a_long_queue_is_cut() {
        let passwords = Passwords::new(1);
        let all: Vec<_> = (0..100)
            .map(|_| {
                let passwords = passwords.clone();
                async move { passwords.verify("x".into(), None).await }
            })
            .collect();
        let mut set = tokio::task::JoinSet::new();
        for one in all {
            set.spawn(one);
        }
        let results = set.join_all().await;
        assert!(results.iter().any(Result::is_ok));
        let refused = results.iter().filter_map(|result| result.as_ref().err());
        assert!(refused.map(Problem::status).any(|status| status == 503));
    }
}
