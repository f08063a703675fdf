//! Settings: defaults on paper, then a file, then the environment.

use std::{collections::HashMap, path::Path};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
    value::Dict,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::http::client::{Service, UrlList};

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

/// Section `urls`: where the other services are, each at one URL or several.
pub type UrlSettings = HashMap<Service, UrlList>;

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
    let settings = settings.merge(environment);
    refuse_lookalikes(&settings.extract()?, own_variables())?;
    Ok(settings)
}

/// Variables of the environment that begin with `TATAMI_` and mean nothing to anybody, for a warning.
pub fn unknown_variables() -> Vec<String> {
    // Of the command line, of docker-compose.yml and of the scripts.
    const KNOWN: [&str; 5] = ["CONFIG", "DATA_DIR", "BIND", "POSTGRES_PASSWORD", "CACHE"];
    let is_known = |name: &String| KNOWN.contains(&name.as_str()) || name.starts_with("TEST_");
    own_variables().filter(|name| !is_known(name)).map(|name| format!("{PREFIX}{name}")).collect()
}

const PREFIX: &str = "TATAMI_";

/// The rest of the names of our variables that are no settings.
fn own_variables() -> impl Iterator<Item = String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter_map(|name| name.strip_prefix(PREFIX).map(ToOwned::to_owned))
        .filter(|name| !name.contains("__"))
}

/// Refuses variables that are settings but for a missing underscore: who has set one believes that it works.
fn refuse_lookalikes(settings: &Dict, variables: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut known = Vec::new();
    add_variables(settings, "", &mut known);
    for variable in variables {
        let meant = known.iter().find(|known| known.replace("__", "_").eq_ignore_ascii_case(&variable));
        if let Some(meant) = meant {
            anyhow::bail!("{PREFIX}{variable} is no setting: did you mean {PREFIX}{meant}?");
        }
    }
    Ok(())
}

fn add_variables(section: &Dict, path: &str, all: &mut Vec<String>) {
    for (key, value) in section {
        let name = format!("{path}{}", key.to_uppercase());
        match value.as_dict() {
            Some(section) => add_variables(section, &format!("{name}__"), all),
            None => all.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_lack_an_underscore_are_refused() {
        let settings: Dict = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        let check = |name: &str| refuse_lookalikes(&settings, std::iter::once(name.to_owned()));
        for (name, meant) in [
            ("KAFKA_BROKERS", "TATAMI_KAFKA__BROKERS"),
            ("kafka_brokers", "TATAMI_KAFKA__BROKERS"),
            ("HTTP_MAX_BODY_BYTES", "TATAMI_HTTP__MAX_BODY_BYTES"),
            ("URLS_X509_IDENTITY", "TATAMI_URLS__X509_IDENTITY"),
        ] {
            assert!(check(name).unwrap_err().to_string().contains(meant), "{name}");
        }
        for name in ["DATA_DIR", "POSTGRES_PASSWORD", "TEST_KAFKA", "KAFKA", "BROKERS"] {
            check(name).unwrap();
        }
    }
}
