//! Settings of auth.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

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
    /// How many password checks may wait; of more, those of whoever sends most are answered 429.
    pub password_queue: usize,
    /// How long a password check may wait, in seconds; then it is answered 503.
    pub password_wait_s: u64,
    /// How long permissions of a user are remembered, in seconds.
    pub access_cache_s: u64,
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
        anyhow::ensure!(self.access_cache_s <= 3600, "auth.access_cache_s must be 3600 at most");
        Ok(())
    }
}

/// A secret setting, unless it is left empty.
pub(crate) fn unless_empty(secret: &SecretString) -> Option<SecretString> {
    (!secret.expose_secret().is_empty()).then(|| secret.clone())
}
