//! Password hashes. They are slow and need much memory on purpose, so only a few are made at a time, each in memory
//! that is used again.

use std::time::Duration;

use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version,
    password_hash::{Error, Output, ParamsString, PasswordHash, Salt, SaltString},
};
use common::http::Problem;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    admission::{Admission, Asker, Lent, Refused},
    domain::pbkdf2,
};

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords(Admission<Memory>);

/// What argon2 works in: 19 MiB, allocated by the first hash. Kept, because the allocator would keep it as well, once
/// for every thread that ever hashed.
type Memory = Vec<Block>;

/// The right to make one hash.
pub(crate) struct Turn(Lent<Memory>);

/// Belongs to no password; its parameters are those of [`Argon2::default`].
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// More hashes at a time would need more memory than logins are worth.
const MOST_AT_A_TIME: usize = 4;

impl Passwords {
    /// At most `queue` wait for their turn, for `longest_wait` each; the others are refused. At most half of the cores
    /// hash, so that logins never keep the rest of the platform from working.
    pub(crate) fn new(queue: usize, longest_wait: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memories = vec![Memory::new(); (cores / 2).clamp(1, MOST_AT_A_TIME)];
        Self(Admission::new(memories, queue, longest_wait))
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, asker: Asker) -> Result<Turn, Problem> {
        self.0.borrow(asker).await.map(Turn).map_err(|refused| {
            let reason = match refused {
                Refused::TooMany => "too many",
                Refused::TooLong(_) => "too long",
            };
            metrics::counter!("auth_password_checks_refused_total", "reason" => reason).increment(1);
            refused.into()
        })
    }

    /// Hashes a password with argon2id and OWASP's parameters (19 MiB, 2 passes). Those for whom it is done, tenants for
    /// example, take turns.
    pub(crate) async fn hash(&self, password: SecretString, for_whom: &str) -> Result<String, Problem> {
        self.hash_for(Asker { address: None, name: for_whom.to_owned() }, password).await
    }

    /// The same for somebody from outside.
    pub(crate) async fn hash_for(&self, asker: Asker, password: SecretString) -> Result<String, Problem> {
        let turn = self.turn(asker).await?;
        turn.run(move |memory| hashed(&password, memory)).await?.map_err(cannot_hash)
    }
}

/// What came of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right, and its hash is weaker than those that are made today: here is one of them.
    Outdated(String),
}

impl Turn {
    /// Whether the password belongs to the hash. Without a hash the answer is no. All answers take the same time.
    pub(crate) async fn verify(
        self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<Verdict, Problem> {
        let verdict = self.run(move |memory| {
            let Some(hash) = hash else {
                belongs(&password, NOBODY, memory);
                return Ok(Verdict::Wrong);
            };
            if !pbkdf2::is_one(&hash) {
                let is_right = belongs(&password, &hash, memory);
                return Ok(if is_right { Verdict::Right } else { Verdict::Wrong });
            }
            // The better hash is made in any case: a wrong password must not be answered sooner.
            let better = hashed(&password, memory)?;
            let is_right = pbkdf2::belongs(password.expose_secret(), &hash);
            Ok(if is_right { Verdict::Outdated(better) } else { Verdict::Wrong })
        });
        verdict.await?.map_err(cannot_hash)
    }

    /// The first of the hashes that the password belongs to.
    pub(crate) async fn find(
        self,
        password: SecretString,
        hashes: Vec<String>,
    ) -> Result<Option<usize>, Problem> {
        self.run(move |memory| {
            let belongs = |hash: &String| {
                if pbkdf2::is_one(hash) {
                    pbkdf2::belongs(password.expose_secret(), hash)
                } else {
                    belongs(&password, hash, memory)
                }
            };
            hashes.iter().position(belongs)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        // The turn goes along and ends with the work, even when nobody waits for it any more.
        let work = move || self.0.get().map(work);
        let done = tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?;
        done.ok_or_else(|| Problem::internal("a turn without memory"))
    }
}

fn cannot_hash(error: Error) -> Problem {
    Problem::internal(format!("cannot hash a password: {error}"))
}

fn hashed(password: &SecretString, memory: &mut Memory) -> Result<String, Error> {
    let salt: [u8; Salt::RECOMMENDED_LENGTH] = rand::rng().random();
    let argon2 = Argon2::default();
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(&argon2, password, &salt, &mut output, memory)?;
    let salt = SaltString::encode_b64(&salt)?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::default().into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&output)?),
    };
    Ok(hash.to_string())
}

/// Whether a password belongs to a hash of argon2; to what is none, no password does.
fn belongs(password: &SecretString, hash: &str, memory: &mut Memory) -> bool {
    PasswordHash::new(hash).and_then(|hash| matches(password, &hash, memory)).unwrap_or(false)
}

fn matches(password: &SecretString, expected: &PasswordHash<'_>, memory: &mut Memory) -> Result<bool, Error> {
    let (Some(salt), Some(hash)) = (expected.salt, expected.hash) else { return Ok(false) };
    let version = expected.version.map_or(Ok(Version::default()), Version::try_from)?;
    let argon2 = Argon2::new(Algorithm::try_from(expected.algorithm)?, version, Params::try_from(expected)?);
    let mut decoded = [0; Salt::MAX_LENGTH];
    let mut output = [0; Output::MAX_LENGTH];
    let output = &mut output[..hash.len()];
    fill(&argon2, password, salt.decode_b64(&mut decoded)?, output, memory)?;
    // This comparison takes the same time wherever they differ.
    Ok(Output::new(output)? == hash)
}

fn fill(
    argon2: &Argon2<'_>,
    password: &SecretString,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), Error> {
    memory.resize(argon2.params().block_count(), Block::new());
    argon2.hash_password_into_with_memory(password.expose_secret().as_bytes(), salt, output, memory)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(8, Duration::from_mins(1))
    }

    async fn verdict(passwords: &Passwords, password: &str, hash: Option<&str>) -> Verdict {
        let turn = passwords.turn(Asker { address: None, name: "joe".to_owned() }).await.unwrap();
        turn.verify(password.into(), hash.map(str::to_owned)).await.unwrap()
    }

    async fn verify(passwords: &Passwords, password: &str, hash: Option<&str>) -> bool {
        verdict(passwords, password, hash).await == Verdict::Right
    }

    #[tokio::test]
    async fn dojots_hashes_are_known_and_replaced() {
        let passwords = passwords();
        let imported = pbkdf2::SAMPLE.1;
        assert_eq!(verdict(&passwords, "wrong", Some(imported)).await, Verdict::Wrong);
        let Verdict::Outdated(better) = verdict(&passwords, pbkdf2::SAMPLE.0, Some(imported)).await else {
            panic!("the password is right");
        };
        assert!(better.starts_with("$argon2id$"), "{better}");
        assert!(verify(&passwords, pbkdf2::SAMPLE.0, Some(&better)).await);
        let find = async |password: &str| {
            let turn = passwords.turn(Asker { address: None, name: String::new() }).await.unwrap();
            turn.find(password.into(), vec![NOBODY.to_owned(), imported.to_owned(), better.clone()])
                .await
                .unwrap()
        };
        assert_eq!((find(pbkdf2::SAMPLE.0).await, find("wrong").await), (Some(1), None));
    }

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = passwords();
        let hash = passwords.hash("s3cret".into(), "").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify(&passwords, "s3cret", Some(&hash)).await);
        assert!(!verify(&passwords, "s3cre", Some(&hash)).await);
        assert!(!verify(&passwords, "s3cret", None).await);
        for rubbish in ["", "rubbish", "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5"] {
            assert!(!verify(&passwords, "s3cret", Some(rubbish)).await, "{rubbish}");
        }
        assert_ne!(passwords.hash("s3cret".into(), "").await.unwrap(), hash, "every hash has its salt");
    }

    #[tokio::test]
    async fn hashes_are_those_of_everybody_else() {
        let passwords = passwords();
        let ours = passwords.hash("s3cret".into(), "").await.unwrap();
        Argon2::default().verify_password(b"s3cret", &PasswordHash::new(&ours).unwrap()).unwrap();
        let salt = SaltString::from_b64("bm9ib2R5bm9ib2R5").unwrap();
        for params in [Params::default(), Params::new(1024, 3, 2, Some(24)).unwrap()] {
            let theirs = Argon2::new(Algorithm::Argon2id, Version::default(), params);
            let hash = theirs.hash_password(b"s3cret", &salt).unwrap().to_string();
            assert!(verify(&passwords, "s3cret", Some(&hash)).await, "{hash}");
            assert!(!verify(&passwords, "other", Some(&hash)).await, "{hash}");
        }
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_any() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let mut memory = Memory::new();
        assert_eq!(matches(&"x".into(), &nobody, &mut memory), Ok(false));
        assert_eq!(memory.len(), Argon2::default().params().block_count());
    }
}
