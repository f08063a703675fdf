//! Runs the programs that users run.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` when it was killed by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a program to its end, for `limit` at most.
pub async fn run(mut command: Command, limit: Duration) -> Outcome {
    let name = format!("{:?}", command.as_std());
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let output = tokio::time::timeout(limit, child.wait_with_output()).await;
    let output =
        output.unwrap_or_else(|_| panic!("{name} did not end within {limit:?}")).expect("a child's output");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A file of this package, for example `clients/publisher.py`.
pub fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A node program of `clients/`.
pub fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", common::testing::real_engine("NODE_PATH")).arg(file("clients").join(script));
    command
}

/// A Python program of `clients/`.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(common::testing::real_engine("PYTHON"));
    command.arg(file("clients").join(script));
    command
}
