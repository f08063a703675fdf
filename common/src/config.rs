//! Settings: defaults on paper, then a file, then the environment.

use std::{collections::HashMap, path::Path};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::http::client::Service;

/// The defaults of the sections that all services share.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Section `internal`: what the services of one installation share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InternalSettings {
    /// Signs the caller header between services; at least 32 characters. Empty: generated once in the data
    /// directory, which suits only `tatami up`.
    pub secret: SecretString,
}

/// Section `admin`: the admin listener of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Address of health and metrics.
    pub listen: String,
}

/// Section `history_store`: what holds for both engines.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistorySettings {
    /// How long readings are kept, in seconds.
    pub expiry_s: u64,
}

/// Section `urls`: where the other services are.
pub type UrlSettings = HashMap<Service, String>;

/// Reads settings: `defaults` (TOML texts), then the file, then `TATAMI_<SECTION>__<KEY>`.
///
/// The error names the key and what is allowed.
pub fn load<T: DeserializeOwned>(defaults: &[&str], file: Option<&Path>) -> anyhow::Result<T> {
    Ok(figment(defaults, file)?.extract()?)
}

/// The merged settings before they are read into types, for showing them.
pub fn figment(defaults: &[&str], file: Option<&Path>) -> anyhow::Result<Figment> {
    let mut settings = defaults.iter().fold(Figment::new(), |all, text| all.merge(Toml::string(text)));
    if let Some(file) = file {
        anyhow::ensure!(file.is_file(), "the settings file {} does not exist", file.display());
        settings = settings.merge(Toml::file(file));
    }
    // Without a double underscore it is not a setting: `TATAMI_CACHE` and the like belong to scripts.
    let environment = Env::prefixed("TATAMI_").filter(|key| key.as_str().contains("__")).split("__");
    Ok(settings.merge(environment))
}
