//! A device, as mosquitto's programs play it.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    Stack,
    api::Credentials,
    command::{Outcome, run},
};

/// How a device connects: arguments of mosquitto's programs.
#[derive(Debug, Clone)]
pub struct Device(Vec<String>);

impl Device {
    /// With user and password on the plain listener.
    pub fn with_password(stack: &Stack, credentials: &Credentials) -> Self {
        Self::with_password_at(stack.mqtt, credentials)
    }

    /// The same, at another instance of the agent.
    pub fn with_password_at(agent: SocketAddr, credentials: &Credentials) -> Self {
        let (host, port) = (agent.ip().to_string(), agent.port().to_string());
        Self::new(&["-h", &host, "-p", &port, "-u", &credentials.username, "-P", &credentials.password])
    }

    /// With any arguments.
    pub fn new(arguments: &[&str]) -> Self {
        Self(arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// Publishes once. Succeeds when the server has acknowledged (QoS 1).
    pub async fn publish(&self, topic: &str, qos: u8, payload: &str) -> Outcome {
        let mut command = Command::new("mosquitto_pub");
        command.args(&self.0).args(["-t", topic, "-q", &qos.to_string(), "-m", payload]);
        run(command, Duration::from_secs(30)).await
    }

    /// Publishes line by line (QoS 1), whether or not anything is acknowledged.
    pub fn stream(&self, topic: &str) -> Lifeline {
        let mut command = Command::new("mosquitto_pub");
        command.args(&self.0).args(["-t", topic, "-q", "1", "-l"]).stdin(Stdio::piped());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        Lifeline(child.expect("mosquitto_pub starts"))
    }

    /// Subscribes and waits until the server has answered.
    pub async fn subscribe(&self, topic: &str) -> Subscription {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-d", "-v", "-t", topic, "-q", "1"]).args(&self.0);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.expect("mosquitto_sub starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut subscription = Subscription { _child: child, lines, granted: false };
        subscription.granted = subscription.answer().await;
        subscription
    }
}

/// A running `mosquitto_sub`.
pub struct Subscription {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Whether the server has granted it.
    pub granted: bool,
}

impl Subscription {
    /// Longest wait for a line.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The next message, as `topic payload`; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let line = self.line().await?;
            // Lines of the debug output begin with the name of the client or with a word of the program.
            if !line.starts_with("Client ")
                && !line.starts_with("Subscribed ")
                && !line.starts_with("All subscription")
            {
                return Some(line);
            }
        }
    }

    async fn answer(&mut self) -> bool {
        while let Some(line) = self.line().await {
            if let Some(verdicts) = line.strip_prefix("Subscribed (mid: ") {
                return !verdicts.contains("128");
            }
            if line.starts_with("All subscription requests were denied") {
                return false;
            }
        }
        false
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(Self::PATIENCE, self.lines.next_line()).await;
        line.expect("mosquitto_sub prints a line in time").expect("readable output")
    }
}

/// A device that publishes what it is given.
pub struct Lifeline(Child);

impl Lifeline {
    /// Hands over a payload.
    pub async fn publish(&mut self, payload: &str) {
        let stdin = self.0.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(format!("{payload}\n").as_bytes()).await.expect("mosquitto_pub reads");
    }
}
