//! All settings of the binary: the sections of `common` and one per service.

use anyhow::Context;
use common::{
    config::{self, AdminSettings, HistorySettings, InternalSettings, UrlSettings},
    engine::{
        event_log::{EmbeddedLogSettings, KafkaSettings},
        history_store::MongoSettings,
        sql::PostgresSettings,
        ticket_store::RedisSettings,
    },
    http::{InternalKey, server::HttpSettings},
    telemetry::TelemetrySettings,
};
use figment::{Figment, providers::Serialized};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::cli::Options;

/// The effective settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) kafka: KafkaSettings,
    pub(crate) embedded_log: EmbeddedLogSettings,
    pub(crate) postgres: PostgresSettings,
    pub(crate) mongodb: MongoSettings,
    pub(crate) history_store: HistorySettings,
    pub(crate) redis: RedisSettings,
    pub(crate) internal: InternalSettings,
    pub(crate) admin: AdminSettings,
    pub(crate) http: HttpSettings,
    pub(crate) telemetry: TelemetrySettings,
    pub(crate) urls: UrlSettings,
    pub(crate) gateway: gateway::Config,
    pub(crate) auth: auth::Config,
    pub(crate) device_manager: device_manager::Config,
    pub(crate) data_broker: data_broker::Config,
    pub(crate) persister: persister::Config,
    pub(crate) history: history::Config,
    pub(crate) kafka_ws: kafka_ws::Config,
    pub(crate) iot_agent_mqtt: iot_agent_mqtt::Config,
    pub(crate) x509_identity: x509_identity::Config,
}

const DEFAULTS: [&str; 10] = [
    config::DEFAULTS,
    gateway::DEFAULT_CONFIG,
    auth::DEFAULT_CONFIG,
    device_manager::DEFAULT_CONFIG,
    data_broker::DEFAULT_CONFIG,
    persister::DEFAULT_CONFIG,
    history::DEFAULT_CONFIG,
    kafka_ws::DEFAULT_CONFIG,
    iot_agent_mqtt::DEFAULT_CONFIG,
    x509_identity::DEFAULT_CONFIG,
];

impl Settings {
    /// Reads the settings; the error names the key that is wrong.
    pub(crate) fn load(options: &Options) -> anyhow::Result<Self> {
        let settings: Self = figment(options)?.extract().map_err(|error| explained(&error))?;
        settings.check_engines()?;
        Ok(settings)
    }

    /// Refuses what cannot be the address of an engine, instead of trying to reach it for ever.
    fn check_engines(&self) -> anyhow::Result<()> {
        for (option, setting, variable, checked) in [
            ("--kafka", "kafka.brokers", "TATAMI_KAFKA__BROKERS", self.kafka.validate()),
            ("--postgres", "postgres.url", "TATAMI_POSTGRES__URL", self.postgres.validate()),
            ("--mongodb", "mongodb.url", "TATAMI_MONGODB__URL", self.mongodb.validate()),
            ("--redis", "redis.url", "TATAMI_REDIS__URL", self.redis.validate()),
        ] {
            checked
                .with_context(|| format!("{option} (setting {setting}, {variable} in the environment)"))?;
        }
        let secret = self.internal.secret.expose_secret();
        anyhow::ensure!(
            secret.is_empty() || secret.len() >= InternalKey::MIN_SECRET_LEN,
            "setting internal.secret (TATAMI_INTERNAL__SECRET in the environment): must have {} characters or more",
            InternalKey::MIN_SECRET_LEN
        );
        Ok(())
    }

    /// The same, with the services that nobody calls from outside where only this machine reaches them, on whatever port is
    /// free.
    pub(crate) fn with_internal_services_inside(mut self) -> Self {
        for listen in [
            &mut self.auth.listen,
            &mut self.device_manager.listen,
            &mut self.data_broker.listen,
            &mut self.history.listen,
            &mut self.kafka_ws.listen,
            &mut self.x509_identity.listen,
        ] {
            "127.0.0.1:0".clone_into(listen);
        }
        self
    }
}

/// What is wrong with a setting, with its name in the settings file and in the environment.
fn explained(error: &figment::Error) -> anyhow::Error {
    let path: Vec<String> = error.path.iter().map(|part| part.to_lowercase()).collect();
    let variable = path.join("__").to_uppercase();
    anyhow::anyhow!("setting {} (TATAMI_{variable} in the environment): {}", path.join("."), error.kind)
}

/// Defaults, then the file, then the environment, then the command line.
pub(crate) fn figment(options: &Options) -> anyhow::Result<Figment> {
    let mut settings = config::figment(&DEFAULTS, options.config.as_deref())?;
    let engines = [
        ("kafka.brokers", &options.kafka),
        ("postgres.url", &options.postgres),
        ("mongodb.url", &options.mongodb),
        ("redis.url", &options.redis),
    ];
    for (key, value) in engines {
        if let Some(value) = value {
            settings = settings.merge(Serialized::default(key, value));
        }
    }
    let listeners = [
        ("gateway.listen", options.port),
        ("iot_agent_mqtt.listen", options.mqtt_port),
        ("iot_agent_mqtt.listen_tls", options.mqtt_tls_port),
    ];
    for (key, port) in listeners {
        let current: String = settings.extract_inner(key)?;
        settings =
            settings.merge(Serialized::default(key, readdressed(&current, options.host.as_deref(), port)));
    }
    if let Some(port) = options.admin_port {
        settings = settings.merge(Serialized::default("admin.listen", format!("127.0.0.1:{port}")));
    }
    Ok(settings)
}

/// An address with another host or port. An empty address, which means off, stays empty unless a port is given.
fn readdressed(current: &str, host: Option<&str>, port: Option<u16>) -> String {
    if current.is_empty() && port.is_none() {
        return String::new();
    }
    let (old_host, old_port) = current.rsplit_once(':').unwrap_or(("127.0.0.1", current));
    let port = port.map_or_else(|| old_port.to_owned(), |port| port.to_string());
    format!("{}:{port}", host.unwrap_or(old_host))
}

/// A URL without the password that it may carry.
pub(crate) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((credentials, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        Settings::load(&Options::default()).unwrap();
    }

    #[test]
    fn the_command_line_changes_addresses() {
        for (current, host, port, expected) in [
            ("127.0.0.1:8000", None, None, "127.0.0.1:8000"),
            ("127.0.0.1:8000", Some("0.0.0.0"), None, "0.0.0.0:8000"),
            ("127.0.0.1:8000", None, Some(80), "127.0.0.1:80"),
            ("", None, None, ""),
            ("", Some("0.0.0.0"), Some(1883), "0.0.0.0:1883"),
            ("[::1]:8000", None, Some(0), "[::1]:0"),
        ] {
            assert_eq!(readdressed(current, host, port), expected);
        }
    }

    #[test]
    fn passwords_in_urls_are_masked() {
        for (url, masked) in [
            ("postgres://u:p@h/d", "postgres://u:***@h/d"),
            ("postgres://u:p@q@h/d", "postgres://u:***@h/d"),
            ("redis://:p@h:1/0", "redis://:***@h:1/0"),
            ("mongodb://h", "mongodb://h"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(without_password(url), masked);
        }
    }
}
