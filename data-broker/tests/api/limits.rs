//! What sockets may cost: nothing without a token, a place each, and so many bytes that wait.

use std::{sync::Arc, time::Duration};

use axum::Router;
use common::{
    http::client::Service as Name,
    testing::{self, Neighbours, TestEngines, eventually, user_of},
    wire::{Subject, Tenant},
};
use data_broker::Config;
use futures_util::StreamExt;
use reqwest::StatusCode;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{
    Service, config,
    live::{Socket, outcome, reading, token},
};

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn start(config: Config) -> Service {
    let engines = TestEngines::embedded().await;
    let neighbours = Neighbours::start(&engines.engines, &[Name::Auth], Router::new()).await;
    Service::start_with(config, Arc::new(engines), neighbours).await
}

async fn websocket(service: &Service, protocol: u8, query: &str) -> WebSocket {
    let base = service.base.replacen("http", "ws", 1);
    let url = format!("{base}/socket.io/?EIO={protocol}&transport=websocket{query}");
    connect_async(url).await.unwrap().0
}

/// The next text, or none when the connection has ended.
async fn next(socket: &mut WebSocket) -> Option<String> {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap();
        match message?.ok()? {
            Message::Text(text) => return Some(text.to_string()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn next_with(socket: &mut WebSocket, wanted: &str) -> String {
    loop {
        let text = next(socket).await.unwrap();
        if text.contains(wanted) {
            return text;
        }
    }
}

/// Whether there is a place for one more socket, which it takes if so.
async fn is_admitted(service: &Service, tenant: &Tenant) -> bool {
    let query = format!("&token={}", token(service, &user_of(tenant)).await);
    let seen = outcome(service, &query).await;
    assert!(seen.contains(":40") || seen.contains("44\"Too many sockets\""), "{seen}");
    seen.contains(":40")
}

/// A reading of 200,000 bytes and some.
fn large_reading(tenant: &Tenant, number: u32) -> String {
    let text = reading(tenant, "a1", number);
    text.replace("\"attrs\":{", &format!("\"attrs\":{{\"text\":\"{}\",", "x".repeat(200_000)))
}

#[tokio::test]
async fn a_websocket_without_a_token_is_told_so_and_closed() {
    let service = start(config()).await;
    for (query, text) in [("", "missing token"), ("&token=", "missing token"), ("&token=x", "unknown token")]
    {
        let text = format!("Authentication error: {text}");
        for (protocol, refusal) in
            [(3, format!("44\"{text}\"")), (4, format!("44{{\"message\":\"{text}\"}}"))]
        {
            let mut socket = websocket(&service, protocol, query).await;
            assert!(next(&mut socket).await.unwrap().starts_with("0{\""));
            assert_eq!(next(&mut socket).await.unwrap(), refusal);
            assert_eq!(next(&mut socket).await.unwrap(), "1");
            assert_eq!(next(&mut socket).await, None);
        }
    }
}

#[tokio::test]
async fn a_later_client_that_polls_without_a_token_is_told_so() {
    let service = start(config()).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", service.base);
    let seen = testing::client().get(&url).send().await.unwrap().text().await.unwrap();
    let (open, refusal) = seen.split_once('\x1e').unwrap();
    assert_eq!(refusal, r#"44{"message":"Authentication error: missing token"}"#);
    let open: serde_json::Value = serde_json::from_str(&open[1..]).unwrap();
    let poll = format!("{url}&sid={}", open["sid"].as_str().unwrap());
    assert_eq!(testing::client().get(poll).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_no_handshake_opens_nothing() {
    let service = start(config()).await;
    for (query, message) in [
        ("EIO=4&transport=carrier", "Transport unknown"),
        ("EIO=9&transport=polling", "Unsupported protocol version"),
        ("EIO=4&transport=polling&sid=", "Session ID unknown"),
        ("EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA", "Session ID unknown"),
        ("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA", "Session ID unknown"),
    ] {
        let url = format!("{}/socket.io/?{query}&token=x", service.base);
        let answer = testing::client().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["message"], message, "{query}");
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_sockets_and_no_more() {
    let service = start(Config { max_sockets_per_tenant: 2, ..config() }).await;
    let (tenant, other) = (service.tenant(), service.tenant());
    let mut sockets = Vec::new();
    for protocol in [3, 4] {
        let query = format!("&token={}", token(&service, &user_of(&tenant)).await);
        sockets.push(websocket(&service, protocol, &query).await);
    }
    assert!(!is_admitted(&service, &tenant).await);
    assert!(is_admitted(&service, &other).await, "other tenants are not concerned");
    drop(sockets);
    eventually("a place is free", async || is_admitted(&service, &tenant).await.then_some(())).await;
}

#[tokio::test]
async fn a_websocket_that_does_not_read_is_cut_and_nothing_of_it_stays() {
    let service = start(Config { max_sockets_per_tenant: 1, ..config() }).await;
    let tenant = service.tenant();
    let query = format!("&token={}", token(&service, &user_of(&tenant)).await);
    let mut socket = websocket(&service, 3, &query).await;
    next_with(&mut socket, "40").await;
    // It reads nothing from here on, and the place of the tenant is its own until all of it is gone.
    eventually("the place is free", async || {
        service.append(&tenant, &Subject::DEVICE_DATA, &large_reading(&tenant, 1)).await;
        is_admitted(&service, &tenant).await.then_some(())
    })
    .await;
    let ended = async { while next(&mut socket).await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
}

#[tokio::test]
async fn a_websocket_that_reads_receives_more_than_may_wait() {
    let service = start(Config { socket_bytes: 1 << 20, ..config() }).await;
    let tenant = service.tenant();
    let query = format!("&token={}", token(&service, &user_of(&tenant)).await);
    let mut socket = websocket(&service, 3, &query).await;
    next_with(&mut socket, "40").await;
    for number in 0..20 {
        service.append(&tenant, &Subject::DEVICE_DATA, &large_reading(&tenant, number)).await;
        next_with(&mut socket, "42[\"all\"").await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_poll_loses_its_session() {
    let service = start(Config { socket_bytes: 500_000, ..config() }).await;
    let tenant = service.tenant();
    let open = async || {
        let query = format!("&token={}", token(&service, &user_of(&tenant)).await);
        Socket::open(&service, &query).await.0
    };
    let (idle, busy) = (open().await, open().await);
    for number in 0..5 {
        let text = large_reading(&tenant, number);
        service.append(&tenant, &Subject::DEVICE_DATA, &text).await;
        busy.poll_until(&format!("42[\"all\",{text}]")).await;
    }
    assert!(idle.poll().await.contains("Session ID unknown"));
}

#[tokio::test]
async fn a_client_that_falls_behind_by_too_many_events_loses_its_session() {
    let service = start(Config { socket_queue: 8, ..config() }).await;
    let tenant = service.tenant();
    let query = format!("&token={}", token(&service, &user_of(&tenant)).await);
    let (idle, _) = Socket::open(&service, &query).await;
    eventually("the session ends", async || {
        for number in 0..8 {
            service.append(&tenant, &Subject::DEVICE_DATA, &reading(&tenant, "a1", number)).await;
        }
        let url = format!("{}&sid={}&x", idle.base, idle.sid);
        let gone = testing::client().post(url).body("1:2").send().await.unwrap();
        (gone.status() == StatusCode::BAD_REQUEST).then_some(())
    })
    .await;
}
