//! Commands that ask a running platform, through its gateway, as a user of it.
#![expect(clippy::print_stdout, reason = "commands answer on the terminal")]

use std::{
    io::{BufRead, Write, stdin, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use common::backoff::Backoff;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{AuthCommand, Login, TenantCommand};

/// A platform, and who is logged in.
struct Platform {
    client: reqwest::Client,
    gateway: String,
    token: String,
}

/// A tenant, as `GET /auth/tenants` lists it.
#[derive(Debug, Deserialize)]
struct Tenant {
    #[serde(rename = "tenant")]
    name: String,
    users: u64,
    stays: bool,
}

/// A tenant that is being removed.
#[derive(Debug, Deserialize)]
struct Removal {
    tenant: String,
    services: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Overview {
    tenants: Vec<Tenant>,
    removals: Vec<Removal>,
}

/// `tatami tenant …`
pub(crate) async fn tenant(command: &TenantCommand, login: &Login) -> anyhow::Result<ExitCode> {
    let platform = Platform::enter(login).await?;
    match command {
        TenantCommand::List => list(&platform).await?,
        TenantCommand::Add { name } => {
            platform.call(Method::POST, "/auth/tenants", Some(json!({ "tenant": name }))).await?;
            println!("tenant {name} is there");
        }
        TenantCommand::Remove { name, yes, wait_s } => {
            return remove(&platform, name, *yes, Duration::from_secs(*wait_s)).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `tatami auth …`
pub(crate) async fn auth(command: &AuthCommand) -> anyhow::Result<ExitCode> {
    let AuthCommand::RotateKeys { login } = command;
    let answer = Platform::enter(login).await?.call(Method::POST, "/auth/keys", Some(json!({}))).await?;
    println!("tokens are signed with key {} from now on", answer["kid"].as_str().unwrap_or("?"));
    println!("tokens that were signed before stay good until they expire");
    Ok(ExitCode::SUCCESS)
}

async fn list(platform: &Platform) -> anyhow::Result<()> {
    let overview: Overview =
        serde_json::from_value(platform.call(Method::GET, "/auth/tenants", None).await?)?;
    println!("{:<32}{:>8}  goes with its last user", "tenant", "users");
    for Tenant { name, users, stays } in overview.tenants {
        println!("{name:<32}{users:>8}  {}", if stays { "no" } else { "yes" });
    }
    for Removal { tenant, services } in overview.removals {
        println!("{tenant:<32}       -  being removed; waiting for {}", services.join(", "));
    }
    Ok(())
}

async fn remove(platform: &Platform, name: &str, yes: bool, patience: Duration) -> anyhow::Result<ExitCode> {
    let path = format!("/auth/tenants/{name}");
    if !yes {
        // Without a confirmation the answer says what would go.
        match platform.call(Method::DELETE, &path, None).await {
            Ok(_) => bail!("the platform removed the tenant without a confirmation"),
            Err(error) if !error.to_string().contains("confirm=") => return Err(error),
            Err(error) => println!("{error}"),
        }
        ensure!(ask(&format!("Type {name} to remove it: "))? == name, "nothing was removed");
    }
    platform.call(Method::DELETE, &format!("{path}?confirm={name}"), None).await?;
    println!("tenant {name} and its users are gone; its data is being removed");
    let progress = follow_removal(platform, &path);
    if tokio::time::timeout(patience, progress).await.is_err() {
        println!("still being removed; `tatami tenant list` shows who it waits for");
        return Ok(ExitCode::from(1));
    }
    println!("nothing is left of it");
    Ok(ExitCode::SUCCESS)
}

/// Says who is still removing data, until nobody is.
async fn follow_removal(platform: &Platform, path: &str) {
    let mut backoff = Backoff::up_to(Duration::from_secs(1));
    let mut shown = Vec::new();
    // Unknown: nobody keeps anything of it. Whatever else goes wrong may be over with the next question.
    loop {
        match platform.ask(Method::GET, path, None).await {
            Ok((StatusCode::NOT_FOUND, _)) => return,
            Ok((StatusCode::OK, body)) => match serde_json::from_value::<Removal>(body["removal"].clone()) {
                Ok(Removal { services, .. }) if services != shown => {
                    println!("  waiting for {}", services.join(", "));
                    shown = services;
                }
                Ok(_) => {}
                // There is a new tenant of the name already.
                Err(_) => return,
            },
            Ok(_) | Err(_) => {}
        }
        backoff.wait().await;
    }
}

impl Platform {
    /// Logs in.
    async fn enter(login: &Login) -> anyhow::Result<Self> {
        let password = password(&login.user)?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
        let gateway = login.gateway.trim_end_matches('/').to_owned();
        let mut platform = Self { client, gateway, token: String::new() };
        let body = json!({ "username": login.user, "passwd": password });
        let answer = platform.call(Method::POST, "/auth", Some(body)).await.context("cannot log in")?;
        answer["jwt"].as_str().context("the login gave no token")?.clone_into(&mut platform.token);
        Ok(platform)
    }

    /// The answer to a request, if it was carried out.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let (status, body) = self.ask(method, path, body).await?;
        if status.is_success() {
            return Ok(body);
        }
        match body["message"].as_str() {
            Some(message) => bail!("{message} ({status})"),
            None => bail!("{path}: {status}"),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.gateway));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("no platform answers at {}; --gateway names another", self.gateway))?;
        Ok((answer.status(), answer.json().await.unwrap_or_default()))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whose password it is stands on the command line, not in settings"
)]
fn password(user: &str) -> anyhow::Result<String> {
    match std::env::var("TATAMI_PASSWORD") {
        Ok(password) => Ok(password),
        Err(_) => rpassword::prompt_password(format!("Password of {user}: "))
            .context("no terminal to ask for the password; set TATAMI_PASSWORD"),
    }
}

fn ask(question: &str) -> anyhow::Result<String> {
    print!("{question}");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
