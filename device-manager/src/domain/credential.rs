//! User names and passwords of devices (dojot-connectors.md 4.4).

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use common::wire::{DeviceId, Tenant};
use rand::{Rng, distr::Alphanumeric};

/// Letters of a password: 62 to the power of 15 is about 89 bits.
const PASSWORD_LEN: usize = 15;
/// What is longer was not made here, and is not worth hashing.
const MAX_PASSWORD_LEN: usize = 128;
/// Hash of nothing that anybody knows, checked for devices without a credential so that the answer takes as long.
const NO_CREDENTIAL: &str =
    "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The user name of a device: `tenant@device`.
pub(crate) fn user_name(tenant: &Tenant, device: &DeviceId) -> String {
    format!("{tenant}@{device}")
}

/// Reads `tenant@device`, and `tenant:device` as other agents write it.
pub(crate) fn parse_user_name(name: &str) -> Option<(Tenant, DeviceId)> {
    let (tenant, device) = name.split_once('@').or_else(|| name.split_once(':'))?;
    Some((Tenant::parse(tenant).ok()?, DeviceId::parse(device).ok()?))
}

/// A new password.
pub(crate) fn generate_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LEN).map(char::from).collect()
}

/// How passwords are hashed.
///
/// A slow hash protects words that people choose. These secrets are random with about 89 bits, so nobody finds one
/// by trying, however fast the hash is; a cheap one lets an agent check thousands of connections per second.
fn hasher() -> Result<Argon2<'static>, argon2::password_hash::Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None)?))
}

/// The hash of a password, with its salt and parameters.
pub(crate) fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let salt: [u8; 16] = rand::rng().random();
    let salt = SaltString::encode_b64(&salt)?;
    Ok(hasher()?.hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Whether a password belongs to a stored hash; costs the same when there is none.
pub(crate) fn verify(password: &str, stored: Option<&str>) -> bool {
    if password.len() > MAX_PASSWORD_LEN {
        return false;
    }
    let Ok(hash) = PasswordHash::new(stored.unwrap_or(NO_CREDENTIAL)) else { return false };
    let Ok(hasher) = hasher() else { return false };
    hasher.verify_password(password.as_bytes(), &hash).is_ok() && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_read_in_both_forms() {
        let read = |name| parse_user_name(name).map(|(tenant, device)| format!("{tenant} {device}"));
        for (name, expected) in [
            ("admin@a1b2c3", Some("admin a1b2c3")),
            ("admin:a1b2c3", Some("admin a1b2c3")),
            ("admin", None),
            ("@a1", None),
            ("admin@", None),
            ("Admin@a1", None),
            ("admin@a:b", None),
            ("", None),
        ] {
            assert_eq!(read(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let password = generate_password();
        assert_eq!(password.len(), 15);
        let stored = hash(&password).unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify(&password, Some(&stored)));
        assert!(!verify("wrong", Some(&stored)));
        assert!(!verify("", Some(&stored)));
        assert!(!verify(&password, None));
        assert!(!verify(&"x".repeat(100_000), Some(&stored)));
        assert_ne!(hash(&password).unwrap(), stored, "every hash has its own salt");
    }

    #[test]
    fn the_stand_in_hash_is_a_real_one() {
        assert!(PasswordHash::new(NO_CREDENTIAL).is_ok());
    }
}
