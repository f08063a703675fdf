//! HTTP as attackers write it: nothing is corrected on the way.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// How long a connection is listened to that does not end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects from an address of this machine, which has all of 127.0.0.0/8.
pub async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// Sends exactly this, and returns what comes back until the connection ends. The server may close while the rest is still
/// being written.
pub async fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let both = async {
        let (_, _) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
    };
    let _ = tokio::time::timeout(PATIENCE, both).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and body of one request without a body; 0 when there was no answer.
pub async fn request(to: SocketAddr, method: &str, target: &str, headers: &str) -> (u16, String) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    let answer = exchange(to, request.as_bytes()).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status_of(&answer), body.to_owned())
}

/// The status of an answer; 0 when it is none.
pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A text with every byte as a percent sign and two digits.
pub fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        // Writing to a text cannot fail.
        let _ = write!(all, "%{byte:02x}");
        all
    })
}

/// Header lines with a token.
pub fn bearer(token: &str) -> String {
    if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") }
}
