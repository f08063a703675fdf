//! Settings of data-broker.

use std::collections::HashMap;

use common::{engine::event_log::TopicProfile, wire::Subject};
use serde::Deserialize;

/// Section `data_broker`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API and of socket.io.
    pub listen: String,
    /// How long a socket.io token may wait for its use, in seconds.
    pub token_lifetime_s: u64,
    /// Most events that may wait for one socket; a reader that is slower is disconnected.
    pub socket_queue: usize,
    /// Most bytes that may wait for one socket; a reader that is slower is disconnected.
    pub socket_bytes: usize,
    /// Most sockets of one tenant at a time on this instance.
    pub max_sockets_per_tenant: usize,
    /// Most sockets at a time on this instance.
    pub max_sockets: usize,
    /// Most topics of one tenant for subjects that the platform does not know itself.
    pub max_topics_per_tenant: usize,
    /// How topics are created: subject to profile, and `default` for the others.
    pub topics: HashMap<String, Profile>,
}

/// How topics of a subject are created.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    partitions: i32,
    replication: i32,
    retention_ms: i64,
}

impl Config {
    const DEFAULT: &'static str = "default";

    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=1 << 20).contains(&self.socket_queue),
            "data_broker.socket_queue must be between 1 and 1048576"
        );
        for (key, value) in [
            ("socket_bytes", self.socket_bytes),
            ("max_sockets_per_tenant", self.max_sockets_per_tenant),
            ("max_sockets", self.max_sockets),
        ] {
            anyhow::ensure!(value > 0, "data_broker.{key} must be greater than 0");
        }
        anyhow::ensure!(
            self.topics.contains_key(Self::DEFAULT),
            "data_broker.topics.default is missing: it gives partitions, replication and retention_ms"
        );
        for (subject, profile) in &self.topics {
            let sensible = profile.partitions > 0 && profile.replication > 0 && profile.retention_ms > 0;
            anyhow::ensure!(sensible, "data_broker.topics.{subject}: all values must be greater than 0");
        }
        Ok(())
    }

    /// The profile of a subject.
    pub fn profile(&self, subject: &Subject) -> Option<TopicProfile> {
        let profile = self.topics.get(subject.as_str()).or_else(|| self.topics.get(Self::DEFAULT))?;
        Some(TopicProfile {
            partitions: profile.partitions,
            replication: profile.replication,
            retention_ms: profile.retention_ms,
        })
    }
}
