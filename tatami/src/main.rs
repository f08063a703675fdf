#![doc = include_str!("../README.md")]

mod administration;
mod cli;
mod commands;
mod descriptors;
mod engines;
mod ports;
mod services;
mod settings;
mod welcome;

use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;

use crate::cli::{AuthOptions, Cli, Command, GatewayOptions, ServiceCommand};

/// The system's allocator makes threads wait for each other when one frees what another has allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // SQLite chooses its files' permissions itself: what this process creates is its user's alone. Before there are threads.
    rustix::process::umask(Mode::from_raw_mode(0o077));
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
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Up(options) => services::up(&options).await.map(|()| ExitCode::SUCCESS),
            Command::Config { command, options } => commands::config(&command, &options),
            Command::Doctor(options) => commands::doctor(&options).await,
            Command::Health { url } => commands::health(&url).await,
            Command::Tenant { command, login } => administration::tenant(&command, &login).await,
            Command::Service(ServiceCommand::Auth(AuthOptions { command: Some(command), .. })) => {
                administration::auth(&command).await
            }
            Command::Service(ServiceCommand::Gateway(GatewayOptions { command: Some(command), options })) => {
                commands::gateway(&command, &options)
            }
            Command::Service(command) => {
                let (service, options) = command.parts();
                services::single(service, options).await.map(|()| ExitCode::SUCCESS)
            }
        }
    });
    // Whoever did not end when he was asked is not waited for.
    runtime.shutdown_background();
    ended
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a command belong on the terminal, whatever is logged"
)]
fn complain(error: &anyhow::Error) {
    eprintln!("tatami: {error:#}");
}
