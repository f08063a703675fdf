//! Settings of the gateway.

use std::net::IpAddr;

use anyhow::ensure;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};

pub use crate::domain::client::AddressHeader;

/// Section `gateway`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the platform's API.
    pub listen: String,
    /// File that changes the route table; empty for the embedded one alone.
    pub routes_file: String,
    /// Networks of the proxies that are believed when they say whom they speak for.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say it.
    pub client_address_header: AddressHeader,
    /// Most connections of one client address; those of trusted proxies are not counted.
    pub max_connections_per_address: usize,
    /// Most failures of routes that count them.
    pub rate_limit: RateLimits,
    /// How often instances of services are looked at, in milliseconds.
    pub health_check_interval_ms: u64,
    /// Most decisions of the PDP that are remembered; 0 asks it for every request.
    pub decision_cache_entries: u64,
    /// How long a decision is remembered, in seconds.
    pub decision_cache_ttl_s: u32,
    /// Longest time to connect to a service, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest time until a service begins to answer, in milliseconds.
    pub response_timeout_ms: u64,
    /// Longest pause of a service within the body of an answer, in milliseconds.
    pub body_pause_ms: u64,
    /// A body that ends so long after the decision, in milliseconds, is decided about again.
    pub late_body_ms: u64,
    /// How long an unused connection to a service is kept, in milliseconds.
    pub keep_alive_ms: u64,
    /// Most unused connections kept for one service.
    pub max_idle_connections: usize,
    /// Most websockets at a time.
    pub max_websockets: usize,
    /// A websocket on which nothing moves for so long is closed, in seconds.
    pub websocket_idle_s: u64,
}

/// Section `gateway.rate_limit`: most failures; 0 for no limit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// Of one account from one address, in a minute.
    pub account_minute: u32,
    /// The same in an hour.
    pub account_hour: u32,
    /// Of all accounts from one address, in a minute.
    pub address_minute: u32,
    /// The same in an hour.
    pub address_hour: u32,
}

/// A list, or a text with commas in between as environments have it. An address alone is a network of one.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => text.split(',').map(ToOwned::to_owned).collect(),
        OneOrMany::Many(texts) => texts,
    };
    let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    texts
        .map(|text| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| text))
        .collect::<Result<_, _>>()
        .map_err(|text| D::Error::custom(format!("{text:?} is no network such as 10.0.0.0/8")))
}

impl Config {
    /// Says what is wrong before anything starts.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=60).contains(&self.decision_cache_ttl_s),
            "gateway.decision_cache_ttl_s must be between 1 and 60"
        );
        ensure!(
            (1..=1_000_000).contains(&self.max_websockets),
            "gateway.max_websockets must be between 1 and 1000000"
        );
        ensure!(
            (1..=10_000_000).contains(&self.max_connections_per_address),
            "gateway.max_connections_per_address must be between 1 and 10000000"
        );
        ensure!(self.late_body_ms <= 1000, "gateway.late_body_ms must be between 0 and 1000");
        for (key, value) in [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("response_timeout_ms", self.response_timeout_ms),
            ("body_pause_ms", self.body_pause_ms),
            ("keep_alive_ms", self.keep_alive_ms),
            ("websocket_idle_s", self.websocket_idle_s),
            ("health_check_interval_ms", self.health_check_interval_ms),
        ] {
            ensure!((1..=86_400_000).contains(&value), "gateway.{key} must be between 1 and 86400000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn networks_are_lists_or_texts() {
        #[derive(Deserialize)]
        struct Section {
            #[serde(deserialize_with = "networks")]
            trusted_proxies: Vec<IpNet>,
        }
        let read = |value: Value| {
            let section = serde_json::from_value::<Section>(json!({ "trusted_proxies": value }));
            section.map(|section| section.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for (value, expected) in [
            (json!([]), vec![]),
            (json!(""), vec![]),
            (json!(["10.0.0.0/8", "fd00::/8"]), vec!["10.0.0.0/8", "fd00::/8"]),
            (json!("10.0.0.0/8, 192.0.2.1"), vec!["10.0.0.0/8", "192.0.2.1/32"]),
        ] {
            assert_eq!(read(value).unwrap(), expected);
        }
        for bad in [json!("10.0.0.0/33"), json!(["proxy"]), json!("10.0.0.1-10.0.0.9")] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("is no network such as 10.0.0.0/8"), "{error}");
        }
    }
}
