//! Settings of auth.

use std::{collections::HashSet, path::PathBuf};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::domain::password::Policy;

/// Section `auth`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API.
    pub listen: String,
    /// Password of the user `admin` at the first start; empty: generated.
    pub admin_password: SecretString,
    /// How long a token is good, in seconds.
    pub token_lifetime_s: i64,
    /// How long a login may be extended by refreshing its token, in seconds.
    pub session_lifetime_s: i64,
    /// First password of every new user; empty: generated for each.
    pub user_initial_password: SecretString,
    /// Whether whoever may manage users manages those of all tenants, as in dojot.
    pub users_across_tenants: bool,
    /// Services that keep data of tenants: the name of a tenant that is removed is not given again before all of them have
    /// confirmed that they keep nothing more.
    pub removal_confirmed_by: Vec<String>,
    /// Fewest characters of a password that a user chooses.
    pub password_min_length: usize,
    /// How many of the passwords that a user had before may not be taken again.
    pub password_history: i64,
    /// File with one password per line that nobody may choose; empty: none.
    pub password_blacklist: PathBuf,
    /// How long a link that sets a password is good, in seconds.
    pub password_link_lifetime_s: i64,
    /// Mails with such links.
    pub mail: MailConfig,
    /// How many password checks may wait; of more, those of whoever sends most are answered 429.
    pub password_queue: usize,
    /// How long a password check may wait, in seconds; then it is answered 503.
    pub password_wait_s: u64,
    /// How long permissions of a user are remembered, in seconds.
    pub access_cache_s: u64,
}

/// Section `auth.mail`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// SMTP server; empty: no mails.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from listeners.
    pub encryption: Encryption,
    /// Certificates of authorities that are trusted besides those of the system; empty: none.
    pub trusted_ca: PathBuf,
    /// Login at the server; empty: none.
    pub user: String,
    /// Password of that login.
    pub password: SecretString,
    /// Who the mails come from.
    pub sender: String,
    /// What links begin with.
    pub link_prefix: String,
}

/// How a connection to an SMTP server is kept from listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// TLS after a beginning in clear; a server without it gets no mail.
    Starttls,
    /// TLS from the beginning.
    Tls,
    /// None.
    None,
}

impl Config {
    const MAX_TOKEN_LIFETIME_S: i64 = 10 * 366 * 24 * 3600;

    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=Self::MAX_TOKEN_LIFETIME_S).contains(&self.token_lifetime_s),
            "auth.token_lifetime_s must be from 1 to {} (ten years)",
            Self::MAX_TOKEN_LIFETIME_S
        );
        anyhow::ensure!(
            (self.token_lifetime_s..=Self::MAX_TOKEN_LIFETIME_S).contains(&self.session_lifetime_s),
            "auth.session_lifetime_s must be from auth.token_lifetime_s to {} (ten years)",
            Self::MAX_TOKEN_LIFETIME_S
        );
        anyhow::ensure!(
            (1..=10_000).contains(&self.password_queue),
            "auth.password_queue must be from 1 to 10000"
        );
        anyhow::ensure!(
            (1..=60).contains(&self.password_wait_s),
            "auth.password_wait_s must be from 1 to 60"
        );
        anyhow::ensure!(
            (6..=100).contains(&self.password_min_length),
            "auth.password_min_length must be from 6 to 100"
        );
        anyhow::ensure!(
            (0..=20).contains(&self.password_history),
            "auth.password_history must be from 0 to 20"
        );
        anyhow::ensure!(
            (60..=604_800).contains(&self.password_link_lifetime_s),
            "auth.password_link_lifetime_s must be from 60 to 604800 (a week)"
        );
        anyhow::ensure!(self.access_cache_s <= 3600, "auth.access_cache_s must be 3600 at most");
        Ok(())
    }
}

impl Config {
    const MAX_BLACKLIST_BYTES: u64 = 64 << 20;

    /// The rules for passwords, with the file of those that nobody may choose.
    pub(crate) fn password_policy(&self) -> anyhow::Result<Policy> {
        let min_length = self.password_min_length;
        let file = &self.password_blacklist;
        if file.as_os_str().is_empty() {
            return Ok(Policy { min_length, blacklist: HashSet::new() });
        }
        let unreadable = || format!("auth.password_blacklist: {} cannot be read", file.display());
        let size = std::fs::metadata(file).with_context(unreadable)?.len();
        anyhow::ensure!(size <= Self::MAX_BLACKLIST_BYTES, "auth.password_blacklist: the file is too large");
        let text = std::fs::read_to_string(file).with_context(unreadable)?;
        let blacklist = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Policy { min_length, blacklist })
    }
}

/// A secret setting, unless it is left empty.
pub(crate) fn unless_empty(secret: &SecretString) -> Option<SecretString> {
    (!secret.expose_secret().is_empty()).then(|| secret.clone())
}
