//! Whoever writes tokens: with the key of the platform, as only auth should, or with one of their own.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sign::Signer,
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

use crate::Stack;

/// A key and its name.
#[derive(Clone)]
pub struct Forger {
    /// What the header calls the key.
    pub kid: String,
    /// The key.
    pub rsa: Rsa<Private>,
}

impl Forger {
    /// With the key of a platform on embedded engines.
    pub async fn of(stack: &Stack) -> Self {
        let options = SqliteConnectOptions::new().filename(stack.file("data/auth.db")).read_only(true);
        let mut database = options.connect().await.expect("the database of auth");
        let query = "SELECT kid, private_key FROM signing_keys ORDER BY created_ms DESC LIMIT 1";
        let row = sqlx::query(query).fetch_one(&mut database).await.expect("a signing key");
        let der = BASE64_STANDARD.decode(row.get::<String, _>("private_key")).expect("base64");
        Self { kid: row.get("kid"), rsa: Rsa::private_key_from_der(&der).expect("a key") }
    }

    /// With a key of its own, under somebody's name.
    pub fn own(kid: &str) -> Self {
        Self { kid: kid.to_owned(), rsa: Rsa::generate(2048).expect("a key") }
    }

    /// The header that auth writes.
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid })
    }

    /// A token with auth's header.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token of any texts, with a good signature.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        self.sign_with(header, claims, MessageDigest::sha256(), Padding::PKCS1)
    }

    /// The same with another digest or padding.
    pub fn sign_with(&self, header: &str, claims: &str, digest: MessageDigest, padding: Padding) -> String {
        let key = PKey::from_rsa(self.rsa.clone()).expect("a key");
        let mut signer = Signer::new(digest, &key).expect("a signer");
        signer.set_rsa_padding(padding).expect("a padding");
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = signer.sign_oneshot_to_vec(input.as_bytes()).expect("a signature");
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token whose signature is this block, enciphered with the private key as it is: the place for bad paddings.
    pub fn seal(&self, header: &str, claims: &str, block: &[u8]) -> String {
        let mut signature = vec![0; self.rsa.size() as usize];
        self.rsa
            .private_encrypt(block, &mut signature, Padding::NONE)
            .expect("a block smaller than the modulus");
        format!("{}.{}.{}", encode(header), encode(claims), BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A part of a token.
pub fn encode(part: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part)
}

/// The claims of a token, read without verifying anything.
pub fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("claims")
}
