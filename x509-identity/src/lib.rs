#![doc = include_str!("../README.md")]

mod ca;
pub mod config;
mod devices;
mod domain;
mod events;
mod handlers;
mod router;
mod storage;

use std::net::SocketAddr;

use axum::{Router, extract::FromRef};
use common::{
    clock::Clock,
    consume::{self, Consumption},
    engine::{Engines, outbox::Outbox},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
    tenancy::Topics,
    wire::Subject,
};

pub use crate::config::Config;
use crate::{
    ca::CurrentAuthority,
    devices::{DeviceFollower, Devices},
    storage::{authority::AuthorityRepository, certificates::CertificateRepository},
};

/// Name of the service.
pub const SERVICE: &str = "x509-identity";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

#[derive(Clone, FromRef)]
struct AppState {
    authority: CurrentAuthority,
    names: AuthorityRepository,
    certificates: CertificateRepository,
    devices: Devices,
    clock: Clock,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    engines: Engines,
    follower: DeviceFollower,
    topics: Topics,
}

impl Server {
    /// Binds the listener, opens the database and starts making the authority if there is none.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let flag = engines.readiness.register("x509-identity database");
        let sql = engines.sql.open(SERVICE, sqlx::migrate!("./migrations"), flag, &engines.shutdown)?;
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let outbox = Outbox::start(
            sql.clone(),
            engines.log.clone(),
            topics.clone(),
            engines.clock.clone(),
            &engines.shutdown,
        );
        let names = AuthorityRepository::new(sql.clone());
        let flag = engines.readiness.register("certificate authority");
        let (authority, work) =
            CurrentAuthority::prepare(&config, names.clone(), engines.clock.clone(), flag);
        let (stop, tables) = (engines.shutdown.clone(), sql.clone());
        engines.shutdown.spawn("certificate authority", async move {
            let work = async {
                tables.migrated().await;
                work.await;
            };
            stop.unless_requested(work).await;
        });
        let certificates = CertificateRepository::new(sql, outbox);
        let follower = DeviceFollower { certificates: certificates.clone(), clock: engines.clock.clone() };
        let state = AppState {
            authority,
            names,
            certificates,
            devices: Devices { client: engines.client.clone(), check: config.check_device_exists },
            clock: engines.clock.clone(),
        };
        let layers = Layers {
            service: SERVICE,
            shape: Shape::Error,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        Ok(Self { http, router: layers.wrap(router::router(state)), engines, follower, topics })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        let what = Consumption { service: SERVICE, subjects: vec![Subject::DEVICE], max_batch: 100 };
        consume::start(&self.engines, self.topics, what, self.follower);
        self.http.run(self.router, self.engines.shutdown).await;
    }
}
