//! The sockets that `tatami up` opens to others.

use anyhow::Context;
use common::http::server::HttpServer;
use iot_agent_mqtt::Listeners;
use tokio::net::TcpListener;

use crate::{descriptors, settings::Settings};

/// Sockets that listen already.
pub(crate) struct Ports {
    pub(crate) admin: HttpServer,
    pub(crate) gateway: TcpListener,
    pub(crate) mqtt: Listeners,
}

impl Ports {
    /// Binds all of them. A port that is taken is the commonest reason why a start fails, so this comes before anything is
    /// created or opened.
    pub(crate) async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            admin: bind_admin(settings).await?,
            gateway: bind_gateway(settings).await?,
            mqtt: bind_mqtt(settings).await?,
        })
    }
}

/// Health and metrics.
pub(crate) async fn bind_admin(settings: &Settings) -> anyhow::Result<HttpServer> {
    let listener = bind(&settings.admin.listen, "--admin-port", "admin.listen").await?;
    Ok(HttpServer::on(listener, descriptors::admin(settings.http))?)
}

/// The API.
pub(crate) async fn bind_gateway(settings: &Settings) -> anyhow::Result<TcpListener> {
    bind(&settings.gateway.listen, "--port", "gateway.listen").await
}

/// Devices; an empty address is a listener that is off.
pub(crate) async fn bind_mqtt(settings: &Settings) -> anyhow::Result<Listeners> {
    let config = &settings.iot_agent_mqtt;
    Ok(Listeners {
        plain: bind_unless_off(&config.listen, "--mqtt-port", "iot_agent_mqtt.listen").await?,
        tls: bind_unless_off(&config.listen_tls, "--mqtt-tls-port", "iot_agent_mqtt.listen_tls").await?,
    })
}

async fn bind_unless_off(address: &str, option: &str, setting: &str) -> anyhow::Result<Option<TcpListener>> {
    if address.is_empty() { Ok(None) } else { bind(address, option, setting).await.map(Some) }
}

async fn bind(address: &str, option: &str, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}, change it with {option} or the setting {setting}")
    })
}
