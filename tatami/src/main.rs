#![doc = include_str!("../README.md")]

mod cli;
mod commands;
mod engines;
mod services;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Up(options) => services::up(&options).await.map(|()| ExitCode::SUCCESS),
            Command::Config { command, options } => commands::config(&command, &options),
            Command::Doctor(options) => commands::doctor(&options).await,
            Command::Health { url } => commands::health(&url).await,
            Command::Service(service) => services::single(service).await.map(|()| ExitCode::SUCCESS),
        }
    })
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a command belong on the terminal, whatever is logged"
)]
fn complain(error: &anyhow::Error) {
    eprintln!("tatami: {error:#}");
}
