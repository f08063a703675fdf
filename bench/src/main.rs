#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a load generator is no service: it prints, it spawns its clients, and it stops when something is wrong"
)]

mod device;
mod figures;
mod gateway;
mod issue;
mod nginx;

use std::{sync::Arc, time::Duration};

use clap::{Args, Parser, ValueEnum};
use futures_util::StreamExt;
use serde_json::Value;
use system_tests::{Api, Stack, stack::Kind};
use tokio::time::Instant;

use crate::{
    device::Device,
    figures::{Latencies, cpu_time},
};

/// Load generators for Tatami.
#[derive(Debug, Parser)]
enum Command {
    /// Publishes acknowledged per second at QoS 1
    Acks(Acks),
    /// Time from a publish to its websocket frame
    Latency(Latency),
    /// Tokens and device certificates signed per second
    Issue(issue::Issue),
    /// The gateway beside nginx, and beside nginx with an auth service
    Gateway(gateway::Gateway),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engines {
    /// Everything in the process
    Embedded,
    /// Kafka, PostgreSQL, MongoDB and Redis from TATAMI_TEST_*
    Real,
}

#[derive(Debug, Args)]
struct Acks {
    /// Which engines the platform uses
    #[arg(long, default_value = "embedded")]
    engines: Engines,
    /// Connections, each of a device of its own
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Publishes in flight on each connection
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// How long to measure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Debug, Args)]
struct Latency {
    /// Which engines the platform uses
    #[arg(long, default_value = "embedded")]
    engines: Engines,
    /// Publishes per second
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// How long to measure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[tokio::main]
async fn main() {
    match Command::parse() {
        Command::Acks(options) => acks(&options).await,
        Command::Latency(options) => latency(&options).await,
        Command::Issue(options) => issue::run(&options).await,
        Command::Gateway(options) => gateway::run(&options).await,
    }
}

async fn start(engines: Engines) -> (Stack, Api) {
    let kind = match engines {
        Engines::Embedded => Kind::Embedded,
        Engines::Real => Kind::Real,
    };
    let stack = Stack::start_with(kind, &[("TATAMI_TELEMETRY__FILTER", "warn")]).await;
    let api = stack.new_tenant().await;
    (stack, api)
}

async fn connect(stack: &Stack, api: &Api, count: usize) -> Vec<Device> {
    let mut devices = Vec::with_capacity(count);
    for _ in 0..count {
        let id = api.create_device().await;
        let credentials = api.credentials(&id).await;
        let topic = format!("{}:{id}/attrs", api.tenant);
        devices.push(Device::connect(stack.mqtt, &credentials, topic).await);
    }
    devices
}

async fn acks(options: &Acks) {
    let (stack, api) = start(options.engines).await;
    let devices = connect(&stack, &api, options.connections).await;
    let pid = stack.pid("up");
    let payload: Arc<str> = format!(r#"{{"temperature": 21.5, "text": "{}"}}"#, "x".repeat(163)).into();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let (started, cpu_before) = (Instant::now(), cpu_time(pid));
    let window = options.window;
    let running: Vec<_> = devices
        .into_iter()
        .map(|device| tokio::spawn(device.publish_until(end, window, Arc::clone(&payload))))
        .collect();
    let mut all = Latencies::default();
    for device in running {
        all.absorb(device.await.expect("a device's measurements"));
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time(pid).saturating_sub(cpu_before));
    let count = all.count();
    println!(
        "acks {:?}: {} connections, window {}: {:.0} acknowledged/s, {}, platform {:.1} us CPU per message",
        options.engines,
        options.connections,
        window,
        count as f64 / elapsed.as_secs_f64(),
        all.summary(),
        cpu.as_secs_f64() * 1e6 / count as f64
    );
}

async fn latency(options: &Latency) {
    let (stack, api) = start(options.engines).await;
    let mut device = connect(&stack, &api, 1).await.pop().expect("one device");
    let path = format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", api.tenant, api.ticket().await);
    let (socket, _) =
        tokio_tungstenite::connect_async(stack.websocket_url(&path)).await.expect("a websocket");
    let epoch = Instant::now();
    let total = options.rate * options.seconds;
    let listener = tokio::spawn(async move {
        let mut latencies = Latencies::default();
        let mut socket = socket;
        while latencies.count() < total {
            let frame = socket.next().await.expect("a frame").expect("a good frame");
            let Ok(text) = frame.to_text() else { continue };
            let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
            if let Some(sent) = message["attrs"]["sent_us"].as_u64() {
                latencies.add(Duration::from_micros(epoch.elapsed().as_micros() as u64 - sent));
            }
        }
        latencies
    });
    let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate as f64));
    for _ in 0..total {
        every.tick().await;
        device.publish(&format!(r#"{{"sent_us": {}}}"#, epoch.elapsed().as_micros())).await;
    }
    let latencies = listener.await.expect("the listener's measurements");
    println!(
        "latency {:?}: {} publishes/s, publish to frame: {}",
        options.engines,
        options.rate,
        latencies.summary()
    );
}
