//! From a TCP connection to a session: TLS, CONNECT, who is it, may it, CONNACK.
//!
//! All of this is one boxed future that is gone when the session begins: what it needs is not what an idle
//! connection pays for.

use std::{future::poll_fn, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::BytesMut;
use common::{
    backoff::Backoff,
    slots::Slot,
    wire::{Subject, Topic},
};
use rand::Rng;
use tokio::{net::TcpStream, time::Instant};
use tracing::{debug, warn};

use crate::{
    agent::{Agent, Presence},
    authenticate::Credentials,
    domain::{
        dialect::Dialect,
        identity::{Identity, UserName},
    },
    link::Link,
    metrics::refused,
    packet::{self, Broken, Connect, Refusal, Refused, Welcome},
    session::{Session, Start},
    stream::Stream,
    tls::{self, Acceptor, Peer},
};

/// Nobody knows yet who sends it: this much is enough for a CONNECT with a will.
const MAX_CONNECT_BYTES: u32 = 64 * 1024;
const FAREWELL: Duration = Duration::from_secs(1);

/// A client that has said who it is.
struct Hello {
    stream: Stream,
    connect: Connect,
    /// What came after the CONNECT.
    input: BytesMut,
    peer: Option<Peer>,
}

/// Makes a session of a connection, or ends it.
pub(crate) async fn open(
    agent: Arc<Agent>,
    stream: TcpStream,
    acceptor: Option<Acceptor>,
    slot: Slot<IpAddr>,
) -> Option<Session> {
    let timeout = agent.config.connect_timeout();
    let hello = match tokio::time::timeout(timeout, greet(&agent, stream, acceptor)).await {
        Ok(Ok(hello)) => hello?,
        Ok(Err(error)) => {
            refused("handshake");
            debug!(error = format!("{error:#}"), "a connection ended before its CONNECT");
            return None;
        }
        Err(_) => {
            refused("connect_timeout");
            return None;
        }
    };
    match welcome(&agent, &hello).await {
        Ok(welcomed) => Some(begin(&agent, hello, welcomed, slot)),
        Err(refusal) => {
            let Connect { version, max_packet, .. } = hello.connect;
            refuse(hello.stream, &Refused { version: Some(version), max_packet, refusal }).await;
            None
        }
    }
}

/// TLS handshake and CONNECT. `None` when a CONNECT was refused and answered.
async fn greet(agent: &Agent, tcp: TcpStream, acceptor: Option<Acceptor>) -> anyhow::Result<Option<Hello>> {
    let (mut stream, peer) = match acceptor {
        None => (Stream::Plain(tcp), None),
        Some(acceptor) => {
            let (stream, peer) = tls::accept(acceptor, tcp, &agent.clock).await?;
            (Stream::Tls(Box::new(stream)), Some(peer))
        }
    };
    let mut input = BytesMut::new();
    let broken = |broken: Broken| anyhow::anyhow!("{broken:?}");
    let frame = loop {
        if input.first().is_some_and(|kind| *kind != 0x10) {
            anyhow::bail!("the first packet is no CONNECT");
        }
        let max = MAX_CONNECT_BYTES.min(agent.config.max_packet_bytes);
        match packet::frame_len(&input, max).map_err(broken)? {
            Some(frame) if input.len() >= frame => break frame,
            _ => {}
        }
        let read = poll_fn(|cx| stream.poll_read(cx, &mut input)).await?;
        anyhow::ensure!(read > 0, "the client left");
    };
    match packet::read_connect(&mut input, frame).map_err(broken)? {
        Ok(connect) => Ok(Some(Hello { stream, connect, input, peer })),
        Err(refused) => {
            refuse(stream, &refused).await;
            Ok(None)
        }
    }
}

async fn refuse(mut stream: Stream, connect: &Refused) {
    refused(match connect.refusal {
        Refusal::UnsupportedVersion => "version",
        Refusal::ClientId => "client_id",
        Refusal::Unavailable => "unavailable",
        Refusal::Credentials | Refusal::AuthenticationMethod => "credentials",
        Refusal::NotAuthorized => "not_authorized",
        Refusal::Quota => "quota",
        Refusal::PacketSize => "packet_size",
    });
    let mut out = BytesMut::new();
    packet::put_refusal(&mut out, connect);
    let farewell = async {
        poll_fn(|cx| stream.poll_flush(cx, &mut out)).await?;
        poll_fn(|cx| stream.poll_shutdown(cx)).await
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// A client that may come in.
struct Welcomed {
    presence: Presence,
    topic: Topic,
    generation: i64,
    greeting: Greeting,
}

/// The CONNACK and what it promises.
struct Greeting {
    packet: BytesMut,
    keep_alive_s: u16,
}

async fn welcome(agent: &Arc<Agent>, hello: &Hello) -> Result<Welcomed, Refusal> {
    let connect = &hello.connect;
    if connect.authentication_method {
        return Err(Refusal::AuthenticationMethod);
    }
    let credentials = credentials(agent, hello)?;
    let epoch = agent.control.epoch();
    let identified = agent.authenticator.identify(&credentials).await?;
    let own = &identified.identity;
    let dialect = Dialect::Dojot;
    if let Some(will) = &connect.will {
        dialect.publish(own, &will.topic).ok_or(Refusal::NotAuthorized)?;
    }
    let unavailable = |error: anyhow::Error| {
        warn!(tenant = %own.tenant, error = format!("{error:#}"), "a client cannot be accepted now");
        Refusal::Unavailable
    };
    let prepared = async {
        let watching = agent.control.watch(&own.tenant).await?;
        let topic = agent.topics.resolve(&own.tenant, &Subject::DEVICE_DATA).await?;
        Ok((watching, topic))
    };
    let (watching, topic) = within(agent, prepared).await.map_err(unavailable)?;
    let assigned_client_id = connect.client_id.is_empty().then(random_client_id);
    // Before anything that others notice: a client that cannot be told that it may come in does not come in.
    let greeting = greeting(agent, connect, assigned_client_id.as_deref()).ok_or(Refusal::PacketSize)?;
    let client_id = assigned_client_id.unwrap_or_else(|| connect.client_id.clone());
    let link = Arc::new(Link::new(own.clone(), &client_id, identified.login.clone(), dialect));
    agent.sessions.enter(&link).map_err(|_| Refusal::Quota)?;
    let presence = Presence::new(agent, link, watching);
    // Something happened since the client was looked up that could have ended its rights: from here on events
    // find the session, so one more look is enough.
    if agent.control.epoch() != epoch && agent.authenticator.identify(&credentials).await? != identified {
        return Err(Refusal::NotAuthorized);
    }
    within(agent, take_over(&presence.link)).await.map_err(unavailable)?;
    if agent.shutdown.is_requested() || presence.link.closed().is_some() {
        return Err(Refusal::Unavailable);
    }
    Ok(Welcomed { presence, topic, generation: identified.generation, greeting })
}

async fn within<T>(agent: &Agent, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(agent.config.lookup_timeout(), work).await.context("it took too long")?
}

fn credentials(agent: &Agent, hello: &Hello) -> Result<Credentials, Refusal> {
    if let Some(Peer { fingerprint, .. }) = &hello.peer {
        // The user name means nothing here: the certificate says who it is.
        return Ok(Credentials::Certificate { fingerprint: fingerprint.clone() });
    }
    let name = hello.connect.user.as_deref().ok_or(Refusal::NotAuthorized)?;
    let name = UserName::parse(name).ok_or(Refusal::Credentials)?;
    match &hello.connect.password {
        Some(password) => {
            let password = String::from_utf8(password.to_vec()).map_err(|_| Refusal::Credentials)?;
            Ok(Credentials::Password { user: name.normalised(), password })
        }
        // Only of tenants that exist: nobody else vouches for the name, and topics would be made for it.
        None if agent.config.allow_anonymous_dojot
            && name.colon
            && agent.control.knows(&name.identity.tenant) =>
        {
            Ok(Credentials::Name(name.identity))
        }
        None => Err(Refusal::NotAuthorized),
    }
}

/// Takes over what the client's connections before this one knew, once the log has answered for all of it. So the
/// records of a client keep their order, and what it sends again is recognised.
async fn take_over(link: &Link) -> anyhow::Result<()> {
    while let Some(previous) = link.previous() {
        let mut backoff = Backoff::default();
        while !previous.is_settled() {
            backoff.wait().await;
        }
        link.inherit();
    }
    Ok(())
}

fn random_client_id() -> String {
    format!("auto-{:016x}", rand::rng().random::<u64>())
}

/// `None` when the client takes no packet as large as this.
fn greeting(agent: &Agent, connect: &Connect, assigned_client_id: Option<&str>) -> Option<Greeting> {
    let longest = agent.config.max_keep_alive_s;
    let keep_alive_s = if connect.keep_alive == 0 { longest } else { connect.keep_alive.min(longest) };
    let welcome = Welcome {
        version: connect.version,
        assigned_client_id,
        receive_max: agent.config.in_flight,
        max_packet: agent.config.max_packet_bytes,
        keep_alive: (keep_alive_s != connect.keep_alive).then_some(keep_alive_s),
    };
    let mut packet = BytesMut::new();
    packet::put_welcome(&mut packet, connect.max_packet, &welcome)
        .then_some(Greeting { packet, keep_alive_s })
}

fn begin(agent: &Agent, hello: Hello, welcomed: Welcomed, slot: Slot<IpAddr>) -> Session {
    let Hello { stream, connect, input, peer } = hello;
    let Welcomed { presence, topic, generation, greeting } = welcomed;
    let ends = peer.map(|peer| {
        let left = (peer.not_after_ms - agent.clock.now_ms()).max(0);
        Instant::now() + Duration::from_millis(left as u64)
    });
    let Identity { tenant, device } = &presence.link.own;
    debug!(%tenant, %device, client = %presence.link.client_id, "connected");
    let Greeting { packet: out, keep_alive_s } = greeting;
    let keep_alive = Duration::from_secs(keep_alive_s.into());
    Session::new(Start { presence, stream, connect, input, out, topic, generation, keep_alive, ends, slot })
}
