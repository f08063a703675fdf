//! An MQTT client that says exactly what a test tells it to.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A packet with its kind and content.
pub(crate) type Packet = (u8, Vec<u8>);

pub(crate) fn packet(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = content.len();
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(content);
    packet
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A CONNECT.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) level: u8,
    pub(crate) id: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) keep_alive: u16,
    pub(crate) clean: bool,
    pub(crate) will: Option<(String, String)>,
    /// Largest packet that the client takes, of version 5.
    pub(crate) max_packet: Option<u32>,
}

impl Hello {
    pub(crate) fn new(id: &str, user: &str, password: &str) -> Self {
        Self {
            level: 4,
            id: id.to_owned(),
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
            keep_alive: 60,
            clean: true,
            will: None,
            max_packet: None,
        }
    }

    pub(crate) fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut content = text(if self.level == 3 { "MQIsdp" } else { "MQTT" });
        let flag = |set: bool, bit: u8| u8::from(set) << bit;
        let flags = flag(self.clean, 1)
            | flag(self.will.is_some(), 2)
            | flag(self.password.is_some(), 6)
            | flag(self.user.is_some(), 7);
        content.extend([self.level, flags]);
        content.extend(self.keep_alive.to_be_bytes());
        if self.level == 5 {
            let limit = self.max_packet.map(|max| [&[0x27], &max.to_be_bytes()[..]].concat());
            let properties = limit.unwrap_or_default();
            content.push(properties.len() as u8);
            content.extend(properties);
        }
        content.extend(text(&self.id));
        if let Some((topic, payload)) = &self.will {
            if self.level == 5 {
                content.push(0);
            }
            content.extend(text(topic));
            content.extend(text(payload));
        }
        self.user.iter().chain(&self.password).for_each(|part| content.extend(text(part)));
        packet(0x10, &content)
    }
}

/// A publish of version 3.
pub(crate) fn publish(qos: u8, dup: bool, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    publish_at(4, qos, dup, topic, id, payload)
}

/// A publish of any version.
pub(crate) fn publish_at(level: u8, qos: u8, dup: bool, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut content = text(topic);
    if qos > 0 {
        content.extend(id.to_be_bytes());
    }
    if level == 5 {
        content.push(0);
    }
    content.extend_from_slice(payload.as_bytes());
    packet(0x30 | u8::from(dup) << 3 | qos << 1, &content)
}

pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut content = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        content.extend(text(filter));
        content.push(*qos);
    }
    packet(0x82, &content)
}

/// A connection.
pub(crate) struct Client<S = TcpStream>(pub(crate) S);

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connects and expects to be accepted.
    pub(crate) async fn connect(address: SocketAddr, hello: &Hello) -> Self {
        let mut client = Self::open(address).await;
        client.hello(hello).await;
        client
    }

    /// Ends the connection as a crash does: with a reset.
    pub(crate) fn crash(self) {
        self.0.set_zero_linger().unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Says hello and expects to be accepted.
    pub(crate) async fn hello(&mut self, hello: &Hello) {
        let answer = self.ask(&hello.bytes()).await.expect("a CONNACK");
        assert_eq!((answer.0, answer.1[1]), (0x20, 0), "{answer:?}");
    }

    /// Says hello and returns the code of the refusal.
    pub(crate) async fn refusal(&mut self, hello: &Hello) -> u8 {
        let answer = self.ask(&hello.bytes()).await.expect("a CONNACK");
        assert_eq!(answer.0, 0x20, "{answer:?}");
        assert_eq!(self.read().await, None);
        answer.1[1]
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A server that has closed already is what some tests are about.
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> Option<Packet> {
        self.send(bytes).await;
        self.read().await
    }

    /// The next packet; `None` when the connection has ended.
    pub(crate) async fn read(&mut self) -> Option<Packet> {
        tokio::time::timeout(PATIENCE, self.try_read()).await.expect("an answer in time")
    }

    async fn try_read(&mut self) -> Option<Packet> {
        let kind = self.0.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.0.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).await.ok()?;
        Some((kind, content))
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, id: u16, payload: &str) {
        let answer = self.ask(&publish(1, false, topic, id, payload)).await;
        assert_eq!(answer, Some((0x40, id.to_be_bytes().to_vec())));
    }

    /// Whether the server still answers.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.ask(&packet(0xc0, &[])).await == Some((0xd0, Vec::new()))
    }
}
