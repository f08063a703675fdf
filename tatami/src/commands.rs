//! Commands for operators.
#![expect(clippy::print_stdout, reason = "commands answer on the terminal")]

use std::{process::ExitCode, time::Duration};

use common::http::client::Urls;
use figment::value::{Dict, Value};

use crate::{
    cli::{ConfigCommand, Options},
    engines::{self, DataDir},
    settings::{self, Settings},
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

/// A URL without the password that it may carry.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((credentials, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => text.to_owned(),
    }
}

/// `tatami doctor`
pub(crate) async fn doctor(options: &Options) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(options)?;
    let data_dir =
        if engines::needs_data_dir(&settings) { Some(DataDir::open(&options.data_dir)?) } else { None };
    let engines = engines::connect(&settings, data_dir.as_ref(), Urls::default()).await?;
    let mut all_well = true;
    let mut report = |name: &str, result: Result<(), String>| match result {
        Ok(()) => println!("ok    {name}"),
        Err(reason) => {
            all_well = false;
            println!("FAIL  {name}: {reason}");
        }
    };
    report("log", within(engines.log.check()).await);
    report("database", within(engines.sql.check()).await);
    report("history store", within(engines.history.check()).await);
    report("ticket store", within(engines.tickets.check()).await);
    engines.shutdown.drain(Duration::from_secs(1)).await;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn within<E: std::fmt::Display>(check: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(5), check).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within 5 seconds; is the URL right, is a firewall in between?".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

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
