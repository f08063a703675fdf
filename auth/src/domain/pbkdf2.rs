//! Password hashes of dojot (dojot-api.md 2.6), for users who are imported: `$p5k2$3e8$`, the salt, `$`, the hash.

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use openssl::{hash::MessageDigest, memcmp, pkcs5::pbkdf2_hmac};

const PREFIX: &str = "$p5k2$";
/// Bytes of a hash.
const LENGTH: usize = 24;
/// dojot has 1000. More than this would keep a core busy for too long.
const MOST_ITERATIONS: usize = 100_000;

/// A password and its hash.
#[cfg(test)]
pub(crate) const SAMPLE: (&str, &str) =
    ("s3cret", "$p5k2$3e8$a1b2c3d4e5f60718$PLzh3o8bAhbAffZELU4wjuV.B/Z2vtsH");

/// Whether a stored hash is of this kind.
pub(crate) fn is_one(hash: &str) -> bool {
    hash.starts_with(PREFIX)
}

/// Whether a password belongs to a hash. To what cannot be read, no password does.
pub(crate) fn belongs(password: &str, hash: &str) -> bool {
    let Some((salt, expected)) = hash.rsplit_once('$') else { return false };
    let Some((iterations, _)) = salt.strip_prefix(PREFIX).and_then(|rest| rest.split_once('$')) else {
        return false;
    };
    let iterations = usize::from_str_radix(iterations, 16).unwrap_or_default();
    if !(1..=MOST_ITERATIONS).contains(&iterations) {
        return false;
    }
    let mut found = [0; LENGTH];
    // All that is before the hash is the salt, its prefix too.
    let done =
        pbkdf2_hmac(password.as_bytes(), salt.as_bytes(), iterations, MessageDigest::sha1(), &mut found);
    let expected = decode(expected).unwrap_or_default();
    done.is_ok() && expected.len() == LENGTH && memcmp::eq(&found, &expected)
}

/// Base64 with `./` where others have `+/`.
fn decode(text: &str) -> Option<Vec<u8>> {
    let alphabet =
        alphabet::Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").ok()?;
    GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new()).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_belongs() {
        let (password, hash) = SAMPLE;
        assert!(is_one(hash) && belongs(password, hash));
        assert!(!belongs("S3cret", hash));
        assert!(!is_one("$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5$AAAA"));
        for broken in [
            "",
            "$p5k2$",
            "$p5k2$3e8$",
            "$p5k2$3e8$salt$",
            "$p5k2$3e8$salt$!!!!",
            "$p5k2$0$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$p5k2$-1$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$p5k2$ffffffff$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &hash.replace("3e8", "3e9"),
            &hash[..hash.len() - 4],
        ] {
            assert!(!belongs(password, broken), "{broken}");
        }
    }
}
