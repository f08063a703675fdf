//! What auth and x509-identity sign: tokens and device certificates, through the gateway.

use std::{process::Command, sync::Arc, time::Duration};

use clap::Args;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use system_tests::{Api, Stack};
use tokio::time::Instant;

use crate::{
    Engines,
    figures::{Latencies, cpu_time},
    start,
};

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// Which engines the platform uses
    #[arg(long, default_value = "embedded")]
    engines: Engines,
    /// Requests at a time
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How long each measures, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// See the module.
pub(crate) async fn run(options: &Issue) {
    let (stack, api) = start(options.engines).await;
    let refresh = |api: Api, _: usize| async move {
        api.post("/auth/refresh", json!({})).await;
    };
    let tokens = measure(&stack, &api, options, "tokens", refresh).await;
    let signs = openssl_signs(options.seconds);
    println!(
        "openssl speed rsa2048, one core: {signs:.0} signatures/s; tokens to that: {:.2}",
        tokens / signs
    );
    // Keys cost the generator more than certificates cost the platform, so they are made before.
    let device = api.create_device().await;
    let requests: Arc<[Value]> = (0..options.connections).map(|_| signing_request(&device)).collect();
    let certify = move |api: Api, place: usize| {
        let requests = Arc::clone(&requests);
        async move {
            api.post("/x509/v1/certificates", requests.get(place).expect("a request").clone()).await;
        }
    };
    measure(&stack, &api, options, "certificates", certify).await;
}

/// So many requests at a time, until the time is over; returns how many were answered in a second.
async fn measure<F>(
    stack: &Stack,
    api: &Api,
    options: &Issue,
    what: &str,
    ask: impl Fn(Api, usize) -> F + Clone + Send + 'static,
) -> f64
where
    F: Future<Output = ()> + Send,
{
    let pid = stack.pid("up");
    let (started, cpu_before) = (Instant::now(), cpu_time(pid));
    let end = started + Duration::from_secs(options.seconds);
    let clients = (0..options.connections).map(|place| {
        let (api, ask) = (api.clone(), ask.clone());
        tokio::spawn(async move {
            let mut latencies = Latencies::default();
            while Instant::now() < end {
                let asked = Instant::now();
                ask(api.clone(), place).await;
                latencies.add(asked.elapsed());
            }
            latencies
        })
    });
    let mut all = Latencies::default();
    for client in clients.collect::<Vec<_>>() {
        all.absorb(client.await.expect("a client's measurements"));
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time(pid).saturating_sub(cpu_before));
    let rate = all.count() as f64 / elapsed.as_secs_f64();
    println!(
        "{what} {:?}: {rate:.0}/s at {} requests a time, {}, platform {:.0} us CPU each",
        options.engines,
        options.connections,
        all.summary(),
        cpu.as_secs_f64() * 1e6 / all.count() as f64
    );
    rate
}

/// A request for a certificate of a device.
fn signing_request(device: &str) -> Value {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, device);
    let request = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    json!({ "csr": request, "belongsTo": { "device": device } })
}

/// RSA signatures a second of one core.
fn openssl_signs(seconds: u64) -> f64 {
    let output =
        Command::new("openssl").args(["speed", "-seconds", &seconds.to_string(), "rsa2048"]).output();
    let text = String::from_utf8_lossy(&output.expect("openssl runs").stdout).into_owned();
    let line = text.lines().rev().find(|line| line.starts_with("rsa 2048"));
    let rate = line.and_then(|line| line.split_whitespace().rev().nth(1)?.parse().ok());
    rate.unwrap_or_else(|| panic!("no rate in {text}"))
}
