//! What `tatami up` tells the person who started it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{backoff::Backoff, engine::Engines, http::admin::Readiness};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{engines::EngineNames, ports::Ports, settings::Settings};

/// See the module.
pub(crate) struct Welcome {
    gateway: SocketAddr,
    mqtt: Option<SocketAddr>,
    mqtt_tls: Option<SocketAddr>,
    admin: SocketAddr,
    data_dir: PathBuf,
    engines: EngineNames,
}

impl Welcome {
    /// For sockets that listen already.
    pub(crate) fn new(settings: &Settings, data_dir: &Path, ports: &Ports) -> io::Result<Self> {
        let address = |listener: &TcpListener| listener.local_addr();
        Ok(Self {
            gateway: ports.gateway.local_addr()?,
            mqtt: ports.mqtt.plain.as_ref().map(address).transpose()?,
            mqtt_tls: ports.mqtt.tls.as_ref().map(address).transpose()?,
            admin: ports.admin.local_addr()?,
            data_dir: data_dir.to_owned(),
            engines: EngineNames::of(settings),
        })
    }

    /// Greets in the background.
    pub(crate) fn start(self, password: oneshot::Receiver<SecretString>, engines: &Engines) {
        let (readiness, stop) = (engines.readiness.clone(), engines.shutdown.clone());
        engines.shutdown.spawn("welcome", async move {
            let greeting = async {
                tokio::select! {
                    () = self.greet(password, &readiness) => {}
                    () = tell_what_is_missing(&readiness) => {}
                }
            };
            stop.unless_requested(greeting).await;
        });
    }

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
