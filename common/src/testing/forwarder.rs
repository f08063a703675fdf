//! An engine that comes late, goes away or falls silent, without touching the engine itself.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A loopback address that leads to an engine while it is started, and refuses connections while it is not.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    target: String,
}

/// A forwarder that is started. Its connections break when it is stopped or dropped.
#[derive(Debug)]
pub struct Forwarding {
    tasks: JoinSet<()>,
    frozen: watch::Sender<bool>,
}

impl Forwarder {
    /// A free address for the engine at `url` (`scheme://[user@]host:port[/…]` or `host:port`).
    pub async fn reserve(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let target = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { address: listener.local_addr().expect("an address"), target }
    }

    /// The address to give to a client.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to accept connections.
    pub async fn start(&self) -> Forwarding {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        let (frozen, is_frozen) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, self.target.clone(), is_frozen));
        Forwarding { tasks, frozen }
    }
}

impl Forwarding {
    /// Lets nothing through while it is frozen: connections stay open, and nobody answers.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Breaks all connections and refuses new ones.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, target: String, frozen: watch::Receiver<bool>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(engine) = TcpStream::connect(&target).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_engine, to_engine) = engine.into_split();
        connections.spawn(copy(from_client, to_engine, frozen.clone()));
        connections.spawn(copy(from_engine, to_client, frozen.clone()));
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
