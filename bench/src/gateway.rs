//! The gateway beside nginx, in one run: same upstream, same load, in turns.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use clap::Args;
use system_tests::{Stack, stack::Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::Instant,
};

use crate::{
    figures::{Latencies, cpu_time_of_all, resident_kib_of_all},
    nginx::{Nginx, Role},
};

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Rounds, each of all three
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measures, in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Connections of the load generator
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Idle keep-alive connections for the memory figure; 0 leaves it out. They have to fit into the descriptors
    /// of a process, three each
    #[arg(long, default_value_t = 4_000)]
    idle: usize,
    /// Measures Tatami alone, for profiling, for so many seconds
    #[arg(long)]
    profile: Option<u64>,
}

/// Something that is measured.
struct Subject {
    name: &'static str,
    address: SocketAddr,
    /// First process of the subject, and of what works for it.
    pids: Vec<u32>,
    runs: Vec<Run>,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the subject, per request, in microseconds.
    cpu_us: f64,
}

/// Where the subjects are asked; Tatami asks for a token there and strips the first segment.
const PATH: &str = "/history/device/abc/history";

/// See the module.
pub(crate) async fn run(options: &Gateway) {
    let directory = std::env::temp_dir().join(format!("tatami-bench-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    measure(options, &directory).await;
    let _ = std::fs::remove_dir_all(&directory);
}

async fn measure(options: &Gateway, directory: &Path) {
    let upstream = Nginx::start(directory, "upstream", Role::Upstream).await;
    let to = upstream.address;
    let auth = Nginx::start(directory, "auth", Role::Auth).await;
    let plain = Nginx::start(directory, "plain", Role::Proxy { upstream: to }).await;
    let asking =
        Nginx::start(directory, "auth-request", Role::AuthRequest { upstream: to, auth: auth.address }).await;
    let routes = directory.join("routes.toml");
    // The route of the platform with another upstream, which gets everything that the platform's own service would.
    let route = format!(
        "[[route]]\nname = \"history\"\nurls = [\"http://{to}\"]\ntrusted = true\nprefixes = [\"/history\"]\n\
         strip = \"/history\"\naccess = \"protected\"\n"
    );
    std::fs::write(&routes, route).expect("a route table");
    let routes = routes.display().to_string();
    let settings = [
        ("TATAMI_TELEMETRY__FILTER", "warn"),
        ("TATAMI_GATEWAY__ROUTES_FILE", routes.as_str()),
        // Idle connections stay for as long as they are measured.
        ("TATAMI_HTTP__HEADER_TIMEOUT_MS", "300000"),
        // One address is all clients here, and the descriptors are theirs, not those of devices.
        ("TATAMI_GATEWAY__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("TATAMI_IOT_AGENT_MQTT__MAX_CONNECTIONS", "100"),
        ("TATAMI_IOT_AGENT_MQTT__MAX_CONNECTIONS_PER_ADDRESS", "100"),
    ];
    let stack = Stack::start_with(Kind::Embedded, &settings).await;
    let api = stack.new_tenant().await;
    let header = format!("Authorization: Bearer {}", api.token);
    let subject = |name, address, pids| Subject { name, address, pids, runs: Vec::new() };
    let mut subjects = [
        subject("nginx, plain", plain.address, vec![plain.pid()]),
        subject("nginx, auth_request", asking.address, vec![asking.pid(), auth.pid()]),
        subject("Tatami, token and policy", stack.gateway, vec![stack.pid("up")]),
    ];
    for subject in &subjects {
        check(subject, &header).await;
    }
    if let Some(seconds) = options.profile {
        let [_, _, tatami] = &subjects;
        println!("Tatami has the process id {}", stack.pid("up"));
        println!("{:?}", load(tatami, &header, options.connections, seconds).await);
        return;
    }
    for subject in &subjects {
        load(subject, &header, options.connections, 2).await;
    }
    for _ in 0..options.rounds {
        for subject in &mut subjects {
            let run = load(subject, &header, options.connections, options.seconds).await;
            subject.runs.push(run);
        }
    }
    report(&subjects);
    paced(&subjects, &header, options.seconds).await;
    if options.idle > 0 {
        for subject in &subjects {
            memory(subject, &header, options.idle).await;
        }
    }
}

/// Whoever answers something else is not measured.
async fn check(subject: &Subject, header: &str) {
    let mut connection = Connection::open(subject.address, header).await;
    let answer = connection.ask().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(&"x".repeat(200)),
        "{}: {answer}",
        subject.name
    );
}

/// As many requests as it takes.
async fn load(subject: &Subject, header: &str, connections: usize, seconds: u64) -> Run {
    let before = cpu_time_of_all(&subject.pids);
    let output = Command::new("wrk")
        .args(["--threads", "1", "--latency", "--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--header", header])
        .arg(format!("http://{}{PATH}", subject.address))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("wrk runs: is the package wrk installed?");
    let cpu = cpu_time_of_all(&subject.pids).saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{}: {text}", subject.name);
    let after = |label: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(label));
        rest.unwrap_or_else(|| panic!("{label} is not in {text}")).trim().to_owned()
    };
    let requests: f64 = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in")?.0.parse().ok())
        .expect("a count");
    Run {
        per_second: after("Requests/sec:").parse().expect("a rate"),
        p50_ms: milliseconds(&after("50%")),
        p99_ms: milliseconds(&after("99%")),
        cpu_us: cpu.as_secs_f64() * 1e6 / requests,
    }
}

/// A duration as wrk writes it.
fn milliseconds(text: &str) -> f64 {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        _ => 1e3,
    };
    number.parse::<f64>().expect("a duration") * factor
}

fn report(subjects: &[Subject; 3]) {
    println!("| | requests/s | p50 | p99 | CPU per request | to plain nginx | to auth_request |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let rate = |subject: &Subject| median(&subject.runs, |run| run.per_second);
    let [plain, asking, _] = subjects;
    for subject in subjects {
        println!(
            "| {} | {:.0} | {:.2} ms | {:.2} ms | {:.1} us | {:.2} | {:.2} |",
            subject.name,
            rate(subject),
            median(&subject.runs, |run| run.p50_ms),
            median(&subject.runs, |run| run.p99_ms),
            median(&subject.runs, |run| run.cpu_us),
            rate(subject) / rate(plain),
            rate(subject) / rate(asking),
        );
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The same rate for all: half of what the slowest can do.
async fn paced(subjects: &[Subject; 3], header: &str, seconds: u64) {
    const CONNECTIONS: usize = 32;
    let slowest = subjects.iter().map(|subject| median(&subject.runs, |run| run.per_second));
    let rate = slowest.fold(f64::INFINITY, f64::min) / 2.0;
    println!("\nat {rate:.0} requests/s, from when each was due:");
    for subject in subjects {
        let start = Instant::now();
        let every = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
        let mut running = Vec::new();
        for place in 0..CONNECTIONS {
            let mut connection = Connection::open(subject.address, header).await;
            let first = start + Duration::from_millis(100) + every.mul_f64(place as f64 / CONNECTIONS as f64);
            let count = (seconds as f64 / every.as_secs_f64()) as u32;
            running.push(tokio::spawn(async move {
                let mut latencies = Latencies::default();
                for number in 0..count {
                    let due = first + every * number;
                    tokio::time::sleep_until(due).await;
                    connection.ask().await;
                    latencies.add(due.elapsed());
                }
                latencies
            }));
        }
        let mut all = Latencies::default();
        for connection in running {
            all.absorb(connection.await.expect("a connection's measurements"));
        }
        println!("  {}: {}", subject.name, all.summary());
    }
}

/// What idle connections cost.
async fn memory(subject: &Subject, header: &str, count: usize) {
    let before = resident_kib_of_all(&subject.pids);
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(subject.address, header).await;
        connection.ask().await;
        connections.push(connection);
    }
    let after = resident_kib_of_all(&subject.pids);
    println!(
        "{}: {:.1} MiB resident, {:.1} MiB with {count} idle connections, {:.1} KiB each",
        subject.name,
        before as f64 / 1024.0,
        after as f64 / 1024.0,
        after.saturating_sub(before) as f64 / count as f64
    );
}

/// One connection that asks the same again and again.
struct Connection {
    stream: TcpStream,
    request: String,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, header: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: bench\r\n{header}\r\n\r\n");
        Self { stream, request, answer: Vec::new() }
    }

    async fn ask(&mut self) -> String {
        self.stream.write_all(self.request.as_bytes()).await.expect("a request is sent");
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.expect("an open connection");
            assert!(read > 0, "the connection was closed");
            if let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n")
                && self.answer.len() >= end + 4 + 200
            {
                return String::from_utf8_lossy(&self.answer).into_owned();
            }
        }
    }
}
