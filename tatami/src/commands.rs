//! Commands for operators.
#![expect(clippy::print_stdout, reason = "commands answer on the terminal")]

use std::{fmt::Display, process::ExitCode, time::Duration};

use common::engine::{EventLog, HistoryStore, SqlEngine, TicketStore};
use figment::value::{Dict, Value};
use gateway::inspect::Inspection;
use serde::Serialize;

use crate::{
    cli::{ConfigCommand, GatewayCommand, Options},
    engines::{DataDir, EngineNames, Look, Remote},
    settings::{self, Settings, without_password},
};

/// Keys whose values are not shown.
const SECRETS: [&str; 4] = ["secret", "password", "admin_password", "user_initial_password"];

/// `tatami config …`
pub(crate) fn config(command: &ConfigCommand, options: &Options) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show => {
            // Reading them into their types first shows mistakes as a start would.
            Settings::load(options)?;
            let all: Dict = settings::figment(options)?.extract()?;
            print_section(&[], &all);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `tatami gateway …`
pub(crate) fn gateway(command: &GatewayCommand, options: &Options) -> anyhow::Result<ExitCode> {
    if let GatewayCommand::Check { file } = command {
        let inspection = Inspection::of_file(file)?;
        println!("ok: {} routes with the embedded ones", inspection.count());
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::load(options)?;
    let inspection = Inspection::of_setting(&settings.gateway.routes_file)?;
    match command {
        GatewayCommand::Routes { json } => print_as(*json, &inspection.listing())?,
        GatewayCommand::Explain { method, path, json } => {
            let urls = |service| settings.urls.get(&service).cloned().unwrap_or_default();
            print_as(*json, &inspection.explain(method, path, urls))?;
        }
        GatewayCommand::Check { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn print_as(json: bool, shown: &(impl Display + Serialize)) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(shown)?);
    } else {
        println!("{shown}");
    }
    Ok(())
}

fn print_section(path: &[&str], section: &Dict) {
    let (sections, values): (Vec<_>, Vec<_>) =
        section.iter().partition(|(_, value)| value.as_dict().is_some());
    if !values.is_empty() {
        println!("[{}]", path.join("."));
        for (key, value) in values {
            println!("{key} = {}", shown(key, value));
        }
        println!();
    }
    for (key, value) in sections {
        if let Some(section) = value.as_dict() {
            print_section(&[path, &[key.as_str()]].concat(), section);
        }
    }
}

fn shown(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(_, text) if text.is_empty() => return "\"\"".to_owned(),
        Value::String(..) if SECRETS.contains(&key) => return "\"***\"".to_owned(),
        Value::String(_, text) => without_password(text),
        other => return serde_json::to_string(other).unwrap_or_else(|_| "?".to_owned()),
    };
    format!("{text:?}")
}

/// `tatami doctor`
pub(crate) async fn doctor(options: &Options) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(options)?;
    let Remote { log, sql, history, tickets } = Remote::connect(&settings).await?;
    let names = EngineNames::of(&settings);
    let mut all_well = true;
    let mut report = |name: &str, result: Result<(), String>| match result {
        Ok(()) => println!("ok    {name}"),
        Err(reason) => {
            all_well = false;
            println!("FAIL  {name}: {reason}");
        }
    };
    // Embedded engines are part of `tatami up`: there is nothing to reach.
    report(&names.log, within(log.as_ref().map(EventLog::check)).await);
    report(&names.sql, within(sql.as_ref().map(SqlEngine::check)).await);
    report(&names.history, within(history.as_ref().map(HistoryStore::check)).await);
    report(&names.tickets, within(tickets.as_ref().map(TicketStore::check)).await);
    let directory = options.data_dir.display();
    let (state, checked) = match DataDir::look(&options.data_dir) {
        Ok(Look::Missing) => (" (does not exist yet)", Ok(())),
        Ok(Look::Unused) => (" (not in use)", Ok(())),
        Ok(Look::InUse) => (" (in use by a running platform)", Ok(())),
        Err(error) => ("", Err(error.to_string())),
    };
    report(&format!("data directory {directory}{state}"), checked);
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The answer of an engine, if there is one to ask.
async fn within<E>(check: Option<impl Future<Output = Result<(), E>>>) -> Result<(), String>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let Some(check) = check else { return Ok(()) };
    match tokio::time::timeout(Duration::from_secs(8), check).await {
        Ok(result) => result.map_err(|error| format!("{:#}", anyhow::Error::from(error))),
        Err(_) => Err("no answer within 8 seconds; is the URL right, is a firewall in between?".to_owned()),
    }
}

/// `tatami health`
pub(crate) async fn health(url: &str) -> anyhow::Result<ExitCode> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
    match client.get(url).send().await {
        Ok(response) if response.status().is_success() => {
            println!("ready");
            Ok(ExitCode::SUCCESS)
        }
        Ok(response) => {
            println!("not ready: {}", response.text().await.unwrap_or_default());
            Ok(ExitCode::from(1))
        }
        Err(error) => {
            println!("not reachable: {error}");
            Ok(ExitCode::from(1))
        }
    }
}
