//! A program that listens: `clients/websocket.js`, `clients/socketio.js`.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// One that is connected.
pub struct Listener {
    /// How it was started.
    pub name: String,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Listener {
    /// Starts it and waits until it says that it is connected.
    pub async fn connect(mut command: Command) -> Self {
        let name = format!("{:?}", command.as_std());
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut process = process.expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let mut listener = Self { name, lines, _process: process };
        listener.hears(r#"{"connected":true}"#).await;
        listener
    }

    /// Waits for a line, which has to be this one.
    pub async fn hears(&mut self, expected: &str) {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten();
        assert_eq!(line.as_deref(), Some(expected), "{}", self.name);
    }
}
