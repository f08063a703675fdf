//! A device that publishes as fast as it is acknowledged. It speaks the little of MQTT 3.1.1 that it needs itself, so that
//! the generator costs little.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use system_tests::api::Credentials;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::figures::Latencies;

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const PUBACK: u8 = 0x40;

/// A connected device.
pub(crate) struct Device {
    stream: TcpStream,
    topic: String,
    packet_id: u16,
    /// Bytes of acknowledgements that are not complete yet.
    pending: Vec<u8>,
}

impl Device {
    pub(crate) async fn connect(address: SocketAddr, credentials: &Credentials, topic: String) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0, 60];
        for text in [&format!("bench-{}", credentials.username), &credentials.username, &credentials.password]
        {
            put_text(&mut body, text);
        }
        stream.write_all(&packet(0x10, &body)).await.expect("CONNECT is sent");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("CONNACK arrives");
        assert_eq!(answer, CONNACK, "the device was refused");
        Self { stream, topic, packet_id: 0, pending: Vec::new() }
    }

    /// Keeps `window` publishes in flight until `end`, and returns how long each took to be acknowledged.
    pub(crate) async fn publish_until(mut self, end: Instant, window: usize, payload: Arc<str>) -> Latencies {
        let mut latencies = Latencies::default();
        let mut in_flight = VecDeque::with_capacity(window);
        while Instant::now() < end {
            let mut packets = Vec::new();
            while in_flight.len() < window {
                self.add_publish(&mut packets, &payload);
                in_flight.push_back(Instant::now());
            }
            self.stream.write_all(&packets).await.expect("PUBLISH is sent");
            for _ in 0..self.acknowledgements().await {
                // Acknowledgements come in the order of the publishes.
                let sent: Instant = in_flight.pop_front().expect("something in flight");
                latencies.add(sent.elapsed());
            }
        }
        latencies
    }

    /// Publishes once and waits for the acknowledgement.
    pub(crate) async fn publish(&mut self, payload: &str) {
        let mut packets = Vec::new();
        self.add_publish(&mut packets, payload);
        self.stream.write_all(&packets).await.expect("PUBLISH is sent");
        while self.acknowledgements().await == 0 {}
    }

    fn add_publish(&mut self, packets: &mut Vec<u8>, payload: &str) {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let mut body = Vec::with_capacity(payload.len() + self.topic.len() + 4);
        put_text(&mut body, &self.topic);
        body.extend(self.packet_id.to_be_bytes());
        body.extend(payload.as_bytes());
        packets.extend(packet(0x32, &body));
    }

    /// Waits for bytes and counts the complete acknowledgements in them.
    async fn acknowledgements(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.pending).await.expect("an open connection");
        assert!(read > 0, "the platform closed the connection");
        let complete = self.pending.len() / 4;
        assert!(self.pending.chunks_exact(4).all(|packet| packet[0] == PUBACK), "something else than PUBACK");
        self.pending.drain(..complete * 4);
        complete
    }
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
