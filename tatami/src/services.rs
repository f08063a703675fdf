//! Runs services: all of them in one process, or one.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use common::{
    config,
    engine::Engines,
    http::{
        admin,
        client::{Service as Called, Urls},
        server::HttpServer,
    },
    telemetry,
};
use iot_agent_mqtt::Listeners;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::{
    cli::Options,
    descriptors::{self, Runs},
    engines::{self, DataDir, Watched},
    ports::{self, Ports},
    settings::Settings,
    welcome::Welcome,
};

/// How long open requests and records on their way may take when the process is asked to stop.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the whole platform until it is asked to stop.
pub(crate) async fn up(options: &Options) -> anyhow::Result<()> {
    let mut settings = Settings::load(options)?.with_internal_services_inside();
    let metrics = start_telemetry(&settings)?;
    descriptors::fit(&mut settings, Runs::Everything, descriptors::raise_limit());
    DataDir::ensure_unused(&options.data_dir)?;
    let ports = Ports::bind(&settings).await?;
    let data_dir = DataDir::open(&options.data_dir)?;
    let urls = Urls::default();
    let engines = engines::connect(&settings, Some(&data_dir), urls.clone()).await?;
    engines::watch(&engines, &settings, &[Watched::Log, Watched::History, Watched::Tickets]);
    let welcome = Welcome::new(&settings, &options.data_dir, &ports)?;
    // Before every service has said what it needs, nobody knows whether all of it is there.
    let started = engines.readiness.register("services");
    serve_admin(ports.admin, &engines, metrics);

    let inside = Engines { http: descriptors::inside(engines.http), ..engines.clone() };
    let mut auth = auth::Server::bind(settings.auth.clone(), inside.clone()).await?;
    let password = auth.initial_admin_password();
    let address = auth.local_addr()?;
    let mut services = vec![Bound::new("auth", auth.run()).called(Called::Auth, address)];
    for service in [
        Service::DataBroker,
        Service::DeviceManager,
        Service::History,
        Service::KafkaWs,
        Service::X509Identity,
        Service::Persister,
    ] {
        services.push(service.bind(&settings, &inside).await?);
    }
    services.push(bind_agent(ports.mqtt, &settings, &engines)?);
    services.push(bind_gateway(ports.gateway, &settings, &engines)?);
    // All know where the others are before the first begins to ask.
    for (called, address) in services.iter().filter_map(|service| service.called) {
        urls.set(called, format!("http://{address}"));
    }
    for service in services {
        service.start(&engines);
    }
    started.ready();
    welcome.start(password, &engines);
    stop_when_asked(&engines).await
}

/// Runs one service until it is asked to stop.
pub(crate) async fn single(service: Service, options: &Options) -> anyhow::Result<()> {
    let mut settings = Settings::load(options)?;
    let metrics = start_telemetry(&settings)?;
    descriptors::fit(&mut settings, Runs::One(service), descriptors::raise_limit());
    require_shared_engines(&settings)?;
    let admin = ports::bind_admin(&settings).await?;
    info!(address = %admin.local_addr()?, "health and metrics");
    let engines = engines::connect(&settings, None, Urls::new(settings.urls.clone())).await?;
    engines::watch(&engines, &settings, service.watched());
    let started = engines.readiness.register("services");
    serve_admin(admin, &engines, metrics);
    service.bind(&settings, &engines).await?.start(&engines);
    started.ready();
    stop_when_asked(&engines).await
}

/// A service of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Gateway,
    Auth,
    DeviceManager,
    DataBroker,
    Persister,
    History,
    KafkaWs,
    IotAgentMqtt,
    X509Identity,
}

impl Service {
    /// The engines without which it is not ready, besides its database, which watches itself.
    fn watched(self) -> &'static [Watched] {
        match self {
            Self::Gateway | Self::Auth | Self::DeviceManager | Self::IotAgentMqtt | Self::X509Identity => {
                &[Watched::Log]
            }
            Self::DataBroker | Self::KafkaWs => &[Watched::Log, Watched::Tickets],
            Self::Persister => &[Watched::Log, Watched::History],
            Self::History => &[Watched::History],
        }
    }

    async fn bind(self, settings: &Settings, engines: &Engines) -> anyhow::Result<Bound> {
        let all = engines.clone();
        Ok(match self {
            Self::Gateway => bind_gateway(ports::bind_gateway(settings).await?, settings, engines)?,
            Self::IotAgentMqtt => bind_agent(ports::bind_mqtt(settings).await?, settings, engines)?,
            Self::Persister => {
                let server = persister::Server::bind(settings.persister.clone(), all).await?;
                Bound::new("persister", server.run())
            }
            Self::Auth => {
                let server = auth::Server::bind(settings.auth.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("auth", server.run()).called(Called::Auth, address)
            }
            Self::DeviceManager => {
                let server = device_manager::Server::bind(settings.device_manager.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("device-manager", server.run()).called(Called::DeviceManager, address)
            }
            Self::DataBroker => {
                let server = data_broker::Server::bind(settings.data_broker.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("data-broker", server.run()).called(Called::DataBroker, address)
            }
            Self::History => {
                let server = history::Server::bind(settings.history.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("history", server.run()).called(Called::History, address)
            }
            Self::KafkaWs => {
                let server = kafka_ws::Server::bind(settings.kafka_ws.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("kafka-ws", server.run()).called(Called::KafkaWs, address)
            }
            Self::X509Identity => {
                let server = x509_identity::Server::bind(settings.x509_identity.clone(), all).await?;
                let address = server.local_addr()?;
                Bound::new("x509-identity", server.run()).called(Called::X509Identity, address)
            }
        })
    }
}

fn bind_gateway(listener: TcpListener, settings: &Settings, engines: &Engines) -> anyhow::Result<Bound> {
    let server = gateway::Server::on(listener, &settings.gateway, engines.clone())?;
    Ok(Bound::new("gateway", server.run()))
}

fn bind_agent(listeners: Listeners, settings: &Settings, engines: &Engines) -> anyhow::Result<Bound> {
    let server = iot_agent_mqtt::Server::on(listeners, settings.iot_agent_mqtt.clone(), engines.clone())?;
    Ok(Bound::new("iot-agent-mqtt", server.run()))
}

/// A service that is bound and not serving yet.
struct Bound {
    name: &'static str,
    /// What other services call it, and where.
    called: Option<(Called, SocketAddr)>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Bound {
    fn new(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, called: None, work: Box::pin(work) }
    }

    fn called(self, called: Called, address: SocketAddr) -> Self {
        Self { called: Some((called, address)), ..self }
    }

    fn start(self, engines: &Engines) {
        engines.shutdown.spawn(self.name, self.work);
    }
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

/// Logs and metrics.
fn start_telemetry(settings: &Settings) -> anyhow::Result<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
    telemetry::start(&settings.telemetry)?;
    for variable in config::unknown_variables() {
        warn!(variable, "no setting has this name, it is ignored");
    }
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("seconds".to_owned()), &SECONDS)?
        .install_recorder()?)
}

fn serve_admin(server: HttpServer, engines: &Engines, metrics: PrometheusHandle) {
    let router = admin::router(engines.readiness.clone(), metrics.clone());
    // It answers until the very end, so it does not wait with the others.
    engines.shutdown.spawn("admin", server.run(router, engines.shutdown.clone()));
    let upkeep = engines.shutdown.clone();
    engines.shutdown.spawn("metrics upkeep", async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        while upkeep.unless_requested(every.tick()).await.is_some() {
            metrics.run_upkeep();
        }
    });
}

async fn stop_when_asked(engines: &Engines) -> anyhow::Result<()> {
    engines.shutdown.wait_for_signal().await?;
    let ended_well = engines.shutdown.drain(GRACE).await;
    // Records that were handed over are on the log before the process ends.
    let _ = tokio::time::timeout(GRACE, engines.log.flush()).await;
    info!(ended_well, "stopped");
    leave_anyway();
    Ok(())
}

/// Everything is durable by now. What is left is letting go of engines, and a client library that cannot let go of an engine
/// which is away must not keep the process.
fn leave_anyway() {
    const PATIENCE: Duration = Duration::from_secs(3);
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        std::process::exit(0);
    });
}
