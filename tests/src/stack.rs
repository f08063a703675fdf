//! A running platform.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::testing::{eventually, real_engine};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::{Mutex, OwnedMutexGuard},
};
use uuid::Uuid;

use crate::Api;

/// How long a platform may take to be ready.
const START: Duration = Duration::from_mins(1);

/// Password of the first user, given by the tests instead of being generated.
pub const ADMIN_PASSWORD: &str = "system tests only";

const SECRET: &str = "a secret that only system tests know";

/// Services that run as processes of their own, in an order that a person would choose.
const SERVICES: [&str; 9] = [
    "data-broker",
    "auth",
    "device-manager",
    "x509-identity",
    "persister",
    "history",
    "kafka-ws",
    "iot-agent-mqtt",
    "gateway",
];

/// A platform and where it listens. Its processes are killed when it is dropped.
pub struct Stack {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// MQTT with user and password.
    pub mqtt: SocketAddr,
    /// MQTT with client certificates.
    pub mqtt_tls: SocketAddr,
    /// Health and metrics of the whole platform, or of the gateway.
    pub admin: SocketAddr,
    processes: Vec<Process>,
    directory: TempDir,
    environment: Vec<(String, String)>,
    _alone: Option<OwnedMutexGuard<()>>,
}

struct Process {
    /// Name of the service; of its second process with `-2` behind it.
    service: String,
    arguments: Vec<String>,
    /// Settings of this process alone.
    own: Vec<(String, String)>,
    admin: SocketAddr,
    child: Child,
}

/// Which engines a platform uses, and how it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `tatami up` with embedded engines.
    Embedded,
    /// `tatami up` on Kafka, PostgreSQL, MongoDB and Redis.
    Real,
    /// A process per service, on the same four.
    Split,
}

impl Stack {
    /// Starts a platform and waits until it is ready.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts a platform with settings of its own, given as environment variables.
    pub async fn start_with(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let alone = if kind == Kind::Embedded { None } else { Some(one_at_a_time().await) };
        let mut environment = vec![
            ("TATAMI_AUTH__ADMIN_PASSWORD".to_owned(), ADMIN_PASSWORD.to_owned()),
            ("TATAMI_TELEMETRY__FILTER".to_owned(), "info".to_owned()),
        ];
        if kind != Kind::Embedded {
            environment.extend(real_engines().await);
        }
        environment.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let mut stack = Self {
            gateway: free_address(),
            mqtt: free_address(),
            mqtt_tls: free_address(),
            admin: free_address(),
            processes: Vec::new(),
            directory: TempDir::new().expect("a temporary directory"),
            environment,
            _alone: alone,
        };
        if kind == Kind::Split {
            stack.start_services();
        } else {
            stack.start_up();
        }
        stack.ready().await;
        stack
    }

    fn start_up(&mut self) {
        let arguments = vec![
            "up".to_owned(),
            format!("--data-dir={}", self.directory.path().join("data").display()),
            format!("--port={}", self.gateway.port()),
            format!("--mqtt-port={}", self.mqtt.port()),
            format!("--mqtt-tls-port={}", self.mqtt_tls.port()),
            format!("--admin-port={}", self.admin.port()),
        ];
        let process = self.spawn("up", arguments, Vec::new(), self.admin);
        self.processes.push(process);
    }

    fn start_services(&mut self) {
        let mut set = |key: String, value: String| self.environment.push((key, value));
        set("TATAMI_GATEWAY__LISTEN".to_owned(), self.gateway.to_string());
        set("TATAMI_IOT_AGENT_MQTT__LISTEN".to_owned(), self.mqtt.to_string());
        set("TATAMI_IOT_AGENT_MQTT__LISTEN_TLS".to_owned(), self.mqtt_tls.to_string());
        for service in ["AUTH", "DEVICE_MANAGER", "DATA_BROKER", "HISTORY", "KAFKA_WS", "X509_IDENTITY"] {
            let address = free_address();
            set(format!("TATAMI_{service}__LISTEN"), address.to_string());
            set(format!("TATAMI_URLS__{service}"), format!("http://{address}"));
        }
        for service in SERVICES {
            let admin = if service == "gateway" { self.admin } else { free_address() };
            let arguments = vec![service.to_owned(), format!("--admin-port={}", admin.port())];
            let process = self.spawn(service, arguments, Vec::new(), admin);
            self.processes.push(process);
        }
    }

    /// Starts one more process of a service on the same engines and waits until it is ready. Returns where it listens; it is
    /// named `{service}-2`.
    pub async fn start_second(&mut self, service: &str) -> SocketAddr {
        let (address, admin) = (free_address(), free_address());
        let prefix = format!("TATAMI_{}__", service.to_uppercase().replace('-', "_"));
        let mut own = Vec::new();
        if service != "persister" {
            own.push((format!("{prefix}LISTEN"), address.to_string()));
        }
        if service == "iot-agent-mqtt" {
            own.push((format!("{prefix}LISTEN_TLS"), free_address().to_string()));
        }
        let arguments = vec![service.to_owned(), format!("--admin-port={}", admin.port())];
        let process = self.spawn(&format!("{service}-2"), arguments, own, admin);
        self.processes.push(process);
        self.ready().await;
        address
    }

    fn spawn(
        &self,
        service: &str,
        arguments: Vec<String>,
        own: Vec<(String, String)>,
        admin: SocketAddr,
    ) -> Process {
        let mut child = Command::new(binary())
            .args(&arguments)
            .envs(self.environment.iter().chain(&own).map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let label = service.to_owned();
        #[expect(clippy::disallowed_methods, reason = "ends with the process whose output it copies")]
        #[expect(clippy::print_stdout, reason = "the test runner shows it when the test fails")]
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                println!("{label}: {line}");
            }
        });
        Process { service: service.to_owned(), arguments, own, admin, child }
    }

    /// Waits until every process is ready.
    pub async fn ready(&self) {
        for process in &self.processes {
            let url = format!("http://{}/health/ready", process.admin);
            let ready = async {
                eventually_ready(&url).await;
            };
            if tokio::time::timeout(START, ready).await.is_err() {
                let page = common::testing::client().get(&url).send().await;
                let page = match page {
                    Ok(page) => page.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                panic!("{} was not ready within {START:?}: {page}", process.service);
            }
        }
    }

    /// The platform as admin sees it.
    pub async fn admin(&self) -> Api {
        Api::login(self, "admin", ADMIN_PASSWORD).await
    }

    /// A new tenant, as its first user sees it. The user may do everything in it.
    pub async fn new_tenant(&self) -> Api {
        self.admin().await.create_tenant(self).await
    }

    /// URL of a path behind the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway)
    }

    /// URL of a websocket behind the gateway.
    pub fn websocket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.gateway)
    }

    /// Sends SIGKILL to the process of a service (`up` when there is one for all) and starts it again at once.
    pub async fn kill_and_restart(&mut self, service: &str) {
        self.kill(service).await;
        self.restart(service);
    }

    /// Sends SIGKILL to the process of a service and waits until it is gone.
    pub async fn kill(&mut self, service: &str) {
        let process = self.processes.iter_mut().find(|process| process.service == service);
        process.expect("a service of this stack").child.kill().await.expect("it can be killed");
    }

    /// Starts the process of a service again.
    pub fn restart(&mut self, service: &str) {
        let index = self.processes.iter().position(|process| process.service == service);
        let index = index.expect("a service of this stack");
        let Process { arguments, own, admin, .. } = &self.processes[index];
        self.processes[index] = self.spawn(service, arguments.clone(), own.clone(), *admin);
    }

    /// Process id of a service.
    pub fn pid(&self, service: &str) -> u32 {
        let process = self.processes.iter().find(|process| process.service == service);
        process.and_then(|process| process.child.id()).expect("a running service of this stack")
    }

    /// A command of the binary that asks this platform as its first user.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--gateway", &format!("http://{}", self.gateway)]);
        command.env("TATAMI_PASSWORD", ADMIN_PASSWORD);
        command
    }

    /// Sends a signal to a service: `STOP`, `CONT`.
    pub async fn signal(&self, name: &str, service: &str) {
        let mut command = Command::new("kill");
        command.args([&format!("-{name}"), &self.pid(service).to_string()]);
        let outcome = crate::command::run(command, Duration::from_secs(5)).await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }

    /// A file in the private directory of the stack.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

async fn eventually_ready(url: &str) {
    let client = common::testing::client();
    let mut backoff = common::backoff::Backoff::up_to(Duration::from_millis(100));
    loop {
        if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        backoff.wait().await;
    }
}

/// Sends a command to the engines of the test run: `kill`, `restart`, `pause` or `resume` of one of them.
pub async fn engine(verb: &str, name: &str) {
    let mut command = Command::new(crate::command::file("engines/engines.sh"));
    command.args([verb, &real_engine("ENGINES"), name]);
    let outcome = crate::command::run(command, Duration::from_secs(90)).await;
    assert_eq!(outcome.code, Some(0), "engines.sh {verb} {name}: {}", outcome.stderr);
}

/// Platforms on real engines share one Kafka and so the names of its consumer groups.
async fn one_at_a_time() -> OwnedMutexGuard<()> {
    static ALONE: std::sync::LazyLock<Arc<Mutex<()>>> = std::sync::LazyLock::new(Arc::default);
    Arc::clone(&ALONE).lock_owned().await
}

/// Settings for the real engines: databases of their own, so that every platform begins without users.
async fn real_engines() -> Vec<(String, String)> {
    let name = format!("tatami_{}", Uuid::new_v4().simple());
    let postgres = real_engine("POSTGRES");
    let mut create = Command::new("psql");
    create.args([&postgres, "-qc", &format!("CREATE DATABASE {name}")]);
    let created = crate::command::run(create, Duration::from_secs(30)).await;
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let (server, _) = postgres.rsplit_once('/').expect("a URL with a database");
    let setting = |key: &str, value: String| (format!("TATAMI_{key}"), value);
    vec![
        setting("KAFKA__BROKERS", real_engine("KAFKA")),
        setting("POSTGRES__URL", format!("{server}/{name}")),
        setting("POSTGRES__MAX_CONNECTIONS", "8".to_owned()),
        setting("MONGODB__URL", real_engine("MONGODB")),
        setting("MONGODB__DATABASE", name),
        setting("REDIS__URL", real_engine("REDIS")),
        setting("INTERNAL__SECRET", SECRET.to_owned()),
    ]
}

/// The binary that was built with this test program.
fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    // Test programs are in `deps/` below it, load generators beside it.
    let binary =
        own.ancestors().skip(1).take(2).map(|directory| directory.join("tatami")).find(|file| file.is_file());
    binary.expect("the binary `tatami` beside this program: run the tests with `make test`")
}

/// An address that nobody listens on, handed out once. The port must still be free when the process binds it: it is one
/// that the system gives to no outgoing connection, and `engines.sh` to no engine.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: Range<u32> = 10_000..15_000;
    // Test programs that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(131);
    let address = PORTS.clone().find_map(|_| {
        let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + step % (PORTS.end - PORTS.start)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok()
    });
    address.expect("a free port")
}

/// Waits until `condition` holds, for 30 seconds at most.
pub async fn until<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    eventually(what, || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
    .await;
}
