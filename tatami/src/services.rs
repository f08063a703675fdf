//! Runs services: all of them in one process, or one.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use common::{
    backoff::Backoff,
    engine::Engines,
    http::{
        admin::{self, Readiness},
        client::{Service as Name, Urls},
        server::HttpServer,
    },
    telemetry,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    cli::{Options, Service},
    engines::{self, DataDir, EngineNames, Watched},
    settings::Settings,
};

/// Internal services of `tatami up` listen where only this machine reaches them, on whatever port is free.
const LOOPBACK: &str = "127.0.0.1:0";

/// How long open requests and records on their way may take when the process is asked to stop.
const GRACE: Duration = Duration::from_secs(15);

/// Starts a service that was bound.
macro_rules! start {
    ($engines:expr, $name:literal, $server:expr) => {{
        let server = $server;
        $engines.shutdown.spawn($name, server.run());
    }};
}

/// Runs the whole platform until it is asked to stop.
pub(crate) async fn up(options: &Options) -> anyhow::Result<()> {
    let settings = Settings::load(options)?;
    telemetry::start(&settings.telemetry)?;
    let metrics = record_metrics()?;
    let data_dir = DataDir::open(&options.data_dir)?;
    let urls = Urls::default();
    let engines = engines::connect(&settings, Some(&data_dir), urls.clone()).await?;
    engines::watch(&engines, &settings, &[Watched::Log, Watched::History, Watched::Tickets]);
    let admin = serve_admin(&settings, &engines, metrics).await?;

    macro_rules! internal {
        ($module:ident, $name:ident, $label:literal) => {{
            let config = $module::Config { listen: LOOPBACK.to_owned(), ..settings.$module.clone() };
            let server = $module::Server::bind(config, engines.clone()).await.context($label)?;
            urls.set(Name::$name, format!("http://{}", server.local_addr()?));
            server
        }};
    }
    let mut auth = internal!(auth, Auth, "auth");
    let data_broker = internal!(data_broker, DataBroker, "data-broker");
    let device_manager = internal!(device_manager, DeviceManager, "device-manager");
    let history = internal!(history, History, "history");
    let kafka_ws = internal!(kafka_ws, KafkaWs, "kafka-ws");
    let x509_identity = internal!(x509_identity, X509Identity, "x509-identity");
    let persister =
        persister::Server::bind(settings.persister.clone(), engines.clone()).await.context("persister")?;
    let agent = iot_agent_mqtt::Server::bind(settings.iot_agent_mqtt.clone(), engines.clone())
        .await
        .context("iot-agent-mqtt")?;
    let gateway =
        gateway::Server::bind(settings.gateway.clone(), engines.clone()).await.context("gateway")?;

    let welcome = Welcome {
        gateway: gateway.local_addr()?,
        mqtt: agent.local_addr(),
        mqtt_tls: agent.local_addr_tls(),
        admin,
        data_dir: options.data_dir.clone(),
        engines: EngineNames::of(&settings),
    };
    let password = auth.initial_admin_password();
    start!(engines, "auth", auth);
    start!(engines, "data-broker", data_broker);
    start!(engines, "device-manager", device_manager);
    start!(engines, "history", history);
    start!(engines, "kafka-ws", kafka_ws);
    start!(engines, "x509-identity", x509_identity);
    start!(engines, "persister", persister);
    start!(engines, "iot-agent-mqtt", agent);
    start!(engines, "gateway", gateway);
    let (readiness, stop) = (engines.readiness.clone(), engines.shutdown.clone());
    engines.shutdown.spawn("welcome", async move {
        let greeting = async {
            tokio::select! {
                () = welcome.greet(password, &readiness) => {}
                () = tell_what_is_missing(&readiness) => {}
            }
        };
        stop.unless_requested(greeting).await;
    });
    stop_when_asked(&engines).await
}

async fn wait_until_ready(readiness: &Readiness) {
    let mut backoff = Backoff::up_to(Duration::from_millis(200));
    while !readiness.is_ready() {
        backoff.wait().await;
    }
}

/// Tells every few seconds what the start waits for. Ends only with the wait itself.
#[expect(clippy::print_stdout, reason = "the person who started it looks at the terminal")]
async fn tell_what_is_missing(readiness: &Readiness) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    every.tick().await;
    loop {
        every.tick().await;
        for (name, reason) in readiness.missing() {
            println!("  waiting for {name}: {reason}");
        }
    }
}

/// Runs one service until it is asked to stop.
pub(crate) async fn single(service: Service) -> anyhow::Result<()> {
    let options = service.options();
    let settings = Settings::load(options)?;
    telemetry::start(&settings.telemetry)?;
    let metrics = record_metrics()?;
    require_shared_engines(&settings)?;
    let engines = engines::connect(&settings, None, Urls::new(settings.urls.clone())).await?;
    let admin = serve_admin(&settings, &engines, metrics).await?;
    info!(%admin, "health and metrics");

    macro_rules! run {
        ($module:ident, $label:literal, $watched:expr) => {{
            engines::watch(&engines, &settings, &$watched);
            let server = $module::Server::bind(settings.$module.clone(), engines.clone()).await?;
            start!(engines, $label, server);
        }};
    }
    match service {
        Service::Gateway(_) => run!(gateway, "gateway", [Watched::Log]),
        Service::Auth(_) => run!(auth, "auth", [Watched::Log]),
        Service::DeviceManager(_) => run!(device_manager, "device-manager", [Watched::Log]),
        Service::DataBroker(_) => run!(data_broker, "data-broker", [Watched::Log, Watched::Tickets]),
        Service::Persister(_) => run!(persister, "persister", [Watched::Log, Watched::History]),
        Service::History(_) => run!(history, "history", [Watched::History]),
        Service::KafkaWs(_) => run!(kafka_ws, "kafka-ws", [Watched::Log, Watched::Tickets]),
        Service::IotAgentMqtt(_) => run!(iot_agent_mqtt, "iot-agent-mqtt", [Watched::Log]),
        Service::X509Identity(_) => run!(x509_identity, "x509-identity", [Watched::Log]),
    }
    stop_when_asked(&engines).await
}

/// Services in different processes meet only in engines that all of them reach.
fn require_shared_engines(settings: &Settings) -> anyhow::Result<()> {
    let needed = [
        ("kafka.brokers", "TATAMI_KAFKA__BROKERS", settings.kafka.brokers.is_empty()),
        ("postgres.url", "TATAMI_POSTGRES__URL", settings.postgres.url.expose_secret().is_empty()),
        ("mongodb.url", "TATAMI_MONGODB__URL", settings.mongodb.url.is_empty()),
        ("redis.url", "TATAMI_REDIS__URL", settings.redis.url.is_empty()),
        ("internal.secret", "TATAMI_INTERNAL__SECRET", settings.internal.secret.expose_secret().is_empty()),
    ];
    let missing: Vec<String> = needed
        .iter()
        .filter(|(_, _, missing)| *missing)
        .map(|(key, variable, _)| format!("{key} ({variable})"))
        .collect();
    anyhow::ensure!(
        missing.is_empty(),
        "a service in a process of its own needs engines that others reach too; set {}, or run everything with `tatami up`",
        missing.join(", ")
    );
    Ok(())
}

fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("seconds".to_owned()), &SECONDS)?
        .install_recorder()?)
}

async fn serve_admin(
    settings: &Settings,
    engines: &Engines,
    metrics: PrometheusHandle,
) -> anyhow::Result<SocketAddr> {
    let listener = HttpServer::bind(&settings.admin.listen, settings.http).await.context("admin.listen")?;
    let address = listener.local_addr()?;
    let router = admin::router(engines.readiness.clone(), metrics.clone());
    // It answers until the very end, so it does not wait with the others.
    engines.shutdown.spawn("admin", listener.run(router, engines.shutdown.clone()));
    let upkeep = engines.shutdown.clone();
    engines.shutdown.spawn("metrics upkeep", async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        while upkeep.unless_requested(every.tick()).await.is_some() {
            metrics.run_upkeep();
        }
    });
    Ok(address)
}

async fn stop_when_asked(engines: &Engines) -> anyhow::Result<()> {
    engines.shutdown.wait_for_signal().await?;
    let ended_well = engines.shutdown.drain(GRACE).await;
    // Records that were handed over are on the log before the process ends.
    let _ = tokio::time::timeout(GRACE, engines.log.flush()).await;
    info!(ended_well, "stopped");
    Ok(())
}

/// What `tatami up` tells the person who started it.
struct Welcome {
    gateway: SocketAddr,
    mqtt: Option<SocketAddr>,
    mqtt_tls: Option<SocketAddr>,
    admin: SocketAddr,
    data_dir: PathBuf,
    engines: EngineNames,
}

impl Welcome {
    /// Shows the password of the first start as soon as there is one, since nobody may be locked out because something else
    /// is away, and the rest when everything is ready.
    async fn greet(&self, password: oneshot::Receiver<SecretString>, readiness: &Readiness) {
        // Later starts have none to show: the sender is dropped.
        let password = password.await.ok();
        let password = password.as_ref().map(ExposeSecret::expose_secret);
        self.print_password(password);
        wait_until_ready(readiness).await;
        self.print(password);
    }

    #[expect(clippy::print_stdout, reason = "this is what the command is asked to print")]
    fn print_password(&self, password: Option<&str>) {
        match password {
            Some(password) => println!("\n  user admin, password {password}  (shown only now: keep it)"),
            None => println!("\n  user admin, with the password of the first start"),
        }
        println!(
            "  starting; data in {}, health at http://{}/health/ready",
            self.data_dir.display(),
            self.admin
        );
    }

    #[expect(clippy::print_stdout, reason = "this is what the command is asked to print")]
    fn print(&self, password: Option<&str>) {
        let off = || "off".to_owned();
        let port = |address: Option<SocketAddr>| address.map_or_else(off, |address| address.to_string());
        println!(
            "
Tatami is up.

  API gateway        http://{gateway}
  MQTT               {mqtt}  (user and password)
  MQTT over TLS      {mqtt_tls}  (client certificate)
  health, metrics    http://{admin}/health/ready  http://{admin}/metrics
  engines            {log}, {sql},
                     {history}, {tickets}
  data               {data_dir}
",
            gateway = self.gateway,
            mqtt = port(self.mqtt),
            mqtt_tls = port(self.mqtt_tls),
            admin = self.admin,
            log = self.engines.log,
            sql = self.engines.sql,
            history = self.engines.history,
            tickets = self.engines.tickets,
            data_dir = self.data_dir.display(),
        );
        println!(
            "Try it:

  TOKEN=$(curl -s http://{gateway}/auth -H 'Content-Type: application/json' \\
    -d '{{\"username\": \"admin\", \"passwd\": \"{password}\"}}' | sed 's/.*\"jwt\":\"//; s/\".*//')
  curl -s http://{gateway}/device -H \"Authorization: Bearer $TOKEN\"
",
            gateway = self.gateway,
            password = password.unwrap_or("..."),
        );
    }
}
