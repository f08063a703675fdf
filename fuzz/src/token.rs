//! Nothing passes for a token that was not signed as it stands. The input is
//! - a token; or
//! - its header and its claims as JSON and its signature, on lines of their own; or
//! - `!` and changes of a genuine token: which one (1 byte); place (2 bytes) and what is put there (1 byte), repeatedly.

use std::{collections::HashMap, sync::LazyLock};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    auth::token::{TokenError, Unverified},
    wire::Claims,
};

/// Tokens that were signed with these keys. Nobody has the private ones any more.
static GENUINE: [&str; 3] = [
    include_str!("token/first.jwt").trim_ascii(),
    include_str!("token/second.jwt").trim_ascii(),
    include_str!("token/other_key.jwt").trim_ascii(),
];

static KEYS: LazyLock<HashMap<String, DecodingKey>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct PublicKey {
        kid: String,
        n: String,
        e: String,
    }
    let keys: Vec<PublicKey> = serde_json::from_str(include_str!("token/keys.json")).unwrap();
    let decoding = |key: &PublicKey| DecodingKey::from_rsa_components(&key.n, &key.e).unwrap();
    keys.iter().map(|key| (key.kid.clone(), decoding(key))).collect()
});

/// Checks one input.
pub fn check(data: &[u8]) {
    let token = match data {
        [b'!', which, changes @ ..] => changed(*which, changes),
        [b'{', ..] => str::from_utf8(data).map(encoded).unwrap_or_default(),
        _ => str::from_utf8(data).map(str::to_owned).unwrap_or_default(),
    };
    let verified = verified(&token);
    assert_eq!(verified.is_ok(), GENUINE.contains(&token.as_str()), "{token} is {verified:?}");
    if let Ok(claims) = verified {
        assert_eq!(claims, part(&token, 1).unwrap(), "what was signed");
    }
    if let Ok(unverified) = Unverified::parse(&token) {
        // In what it does not need, our reader lets more pass than this one.
        if let Some(header) = part::<Value>(&token, 0).filter(Value::is_object) {
            assert_eq!((&header["alg"], &header["crit"]), (&"RS256".into(), &Value::Null), "{token}");
            assert_eq!(header["kid"], unverified.key, "{token}");
        }
        assert!(token.len() <= 8192 && token.matches('.').count() == 2, "{token}");
    }
}

/// As `KeyRing` does it.
fn verified(token: &str) -> Result<Claims, TokenError> {
    let unverified = Unverified::parse(token)?;
    let key = KEYS.get(&unverified.key).ok_or(TokenError::Signature)?;
    unverified.verify(token, key)
}

/// A part of a token, which has only one way to be written.
fn part<T: for<'de> Deserialize<'de>>(token: &str, index: usize) -> Option<T> {
    let text = token.split('.').nth(index)?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(&json), text, "the same bytes, written in another way");
    serde_json::from_slice(&json).ok()
}

fn encoded(text: &str) -> String {
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (header, claims) = (BASE64_URL_SAFE_NO_PAD.encode(next()), BASE64_URL_SAFE_NO_PAD.encode(next()));
    format!("{header}.{claims}.{}", next())
}

fn changed(which: u8, changes: &[u8]) -> String {
    let mut token = GENUINE[usize::from(which) % GENUINE.len()].as_bytes().to_vec();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % token.len().max(1);
        match change[2] {
            0 if token.len() > 1 => drop(token.remove(place)),
            1 => token.insert(place, token[place]),
            byte => token[place] = byte & 0x7f,
        }
    }
    String::from_utf8(token).unwrap_or_default()
}
