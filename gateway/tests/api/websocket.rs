//! Websockets pass where a route has them.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::support::{Stack, config};

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways() {
    for stack in Stack::both().await {
        for path in ["/kafka-ws/v1/topics/a.b?ticket=x", "/socket.io/?EIO=3&transport=websocket"] {
            let (mut socket, _) = connect_async(format!("ws://{}{path}", stack.addr)).await.unwrap();
            for size in [0, 1, 125, 126, 65_536, 300_000] {
                let text = "ä".repeat(size);
                socket.send(Message::text(text.clone())).await.unwrap();
                assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
            }
            socket.close(None).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_routes_have_no_websockets() {
    for stack in Stack::both().await {
        let headers = "Authorization: Bearer good\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n");
        let answer = stack.raw(request("/device/socket")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "the service sees a plain request: {answer}");
        let answer = stack.raw(request("/device/x")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!stack.fake.last().headers.contains_key("upgrade"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_service_that_refuses_a_handshake_arrives() {
    for stack in Stack::both().await {
        let error = connect_async(format!("ws://{}/kafka-ws/v1/elsewhere", stack.addr)).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(answer) = error else { panic!("{error}") };
        assert_eq!(answer.status(), 200, "the fake answers without switching");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_end_to_the_number_of_websockets() {
    for stack in Stack::both_with(&gateway::Config { max_websockets: 1, ..config() }).await {
        let url = format!("ws://{}/kafka-ws/v1/topics/a.b", stack.addr);
        let (mut first, _) = connect_async(&url).await.unwrap();
        let error = connect_async(&url).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(answer) = error else { panic!("{error}") };
        assert_eq!(answer.status(), 503);
        first.close(None).await.unwrap();
        while let Some(Ok(_)) = first.next().await {}
        common::testing::eventually("the place is free again", async || connect_async(&url).await.ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_websocket_is_closed() {
    for stack in Stack::both_with(&gateway::Config { websocket_idle_s: 1, ..config() }).await {
        let (mut socket, _) =
            connect_async(format!("ws://{}/kafka-ws/v1/topics/a.b", stack.addr)).await.unwrap();
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next()).await;
        assert!(matches!(end, Ok(None | Some(Err(_)))), "{end:?}");
    }
}
