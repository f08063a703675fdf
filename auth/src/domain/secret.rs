//! Random texts.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};

/// Letters and digits that nobody takes for one another on paper.
const READABLE: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const LETTERS_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// A password that a person can copy from a screen, with 92 bits of chance.
pub(crate) fn readable_password() -> String {
    pick(READABLE, 16)
}

/// A new `iss` for a user's tokens: 32 characters, as Kong makes them (dojot-api.md 1.2).
pub(crate) fn credential_key() -> String {
    pick(LETTERS_AND_DIGITS, 32)
}

/// The end of a link that sets a password: 32 hexadecimal digits, 128 bits of chance.
pub(crate) fn link() -> String {
    pick(b"0123456789abcdef", 32)
}

/// What is kept of a link.
pub(crate) fn link_hash(link: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(link))
}

fn pick(from: &[u8], length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(from[random.random_range(0..from.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_length_and_differ() {
        assert_eq!(readable_password().len(), 16);
        assert_eq!(credential_key().len(), 32);
        assert_ne!(credential_key(), credential_key());
        assert_eq!(link().len(), 32);
        assert_ne!(link(), link());
        assert_eq!(link_hash("abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }
}
