//! A publisher that keeps a list of what was acknowledged, and the count of what became of it.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    Api, Stack,
    command::{python, run},
};

/// Publishes the numbers from 0 as `number` of a device of its own at QoS 1, and sends again what is not acknowledged.
pub struct Publisher {
    agent: SocketAddr,
    device: String,
    username: String,
    password: String,
    topic: String,
    messages: usize,
    list: PathBuf,
}

impl Publisher {
    /// A publisher of a tenant, with a device of its own.
    pub async fn new(stack: &Stack, api: &Api, messages: usize) -> Self {
        let device = api.create_device().await;
        let credentials = api.credentials(&device).await;
        Self {
            agent: stack.mqtt,
            username: credentials.username,
            password: credentials.password,
            topic: format!("{}:{device}/attrs", api.tenant),
            messages,
            list: stack.file(&format!("acknowledged-{}-{device}", api.tenant)),
            device,
        }
    }

    /// The same, publishing to another instance of the agent.
    #[must_use]
    pub fn at(self, agent: SocketAddr) -> Self {
        Self { agent, ..self }
    }

    /// Publishes all, within 400 seconds; `pace` is how many may wait for their acknowledgement, and how many leave a
    /// second.
    pub async fn run(&self, pace: Option<(u32, u32)>) {
        let mut command = python("publisher.py");
        command.args([&self.agent.ip().to_string(), &self.agent.port().to_string()]);
        command.args([&self.username, &self.password, &self.topic, &self.messages.to_string()]);
        command.arg(&self.list);
        if let Some((window, rate)) = pace {
            command.args([window.to_string(), rate.to_string()]);
        }
        let outcome = run(command, Duration::from_secs(400)).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(self.acknowledged(), self.messages, "{outcome:?}");
    }

    /// How many are acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        fs::read_to_string(&self.list).map_or(0, |text| text.lines().count())
    }

    /// Waits until the history holds every acknowledged number, and fails when one is missing after 90 seconds or is there
    /// twice. Returns the count in words.
    pub async fn check(&self, api: &Api) -> String {
        let text = fs::read_to_string(&self.list).expect("the list of the publisher");
        let acknowledged: Vec<u64> = text.lines().map(|line| line.parse().expect("a number")).collect();
        let mut stored = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        let mut backoff = common::backoff::Backoff::up_to(Duration::from_millis(500));
        while stored.len() < self.messages && tokio::time::Instant::now() < deadline {
            stored = api.history(&self.device, "number", 2 * self.messages).await;
            backoff.wait().await;
        }
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for number in stored.iter().filter_map(Value::as_u64) {
            *counts.entry(number).or_default() += 1;
        }
        let missing: Vec<_> = acknowledged.iter().filter(|number| !counts.contains_key(number)).collect();
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        assert!(twice.is_empty(), "stored twice: {twice:?}");
        format!("acknowledged {}, stored {}, lost 0, twice 0", acknowledged.len(), stored.len())
    }
}
