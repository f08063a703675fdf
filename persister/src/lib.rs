#![doc = include_str!("../README.md")]

pub mod config;
mod consumer;
pub mod domain;

use common::{
    consume::{self, Consumption},
    engine::Engines,
    tenancy::Topics,
    wire::Subject,
};

pub use crate::config::Config;
use crate::consumer::Persister;

/// Name of the service and of its group.
pub const SERVICE: &str = "persister";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

/// The service, not consuming yet.
pub struct Server {
    config: Config,
    engines: Engines,
}

impl Server {
    /// Checks the settings. There is nothing to bind.
    #[expect(clippy::unused_async, reason = "all services are bound in the same way")]
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        Ok(Self { config, engines })
    }

    /// Consumes until the end is asked for.
    pub async fn run(self) {
        let Self { config, engines } = self;
        let what = Consumption {
            service: SERVICE,
            subjects: vec![Subject::DEVICE_DATA, Subject::DEVICE],
            max_batch: config.batch_records,
        };
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let handler = Persister::new(engines.history.clone());
        consume::start(&engines, topics, what, handler);
        engines.shutdown.requested().await;
    }
}
