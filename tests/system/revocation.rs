//! A user who is removed loses everything that was opened with a token, and whatever could still be opened.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use system_tests::{
    Stack,
    command::{node, run},
    listener::Listener,
    stack::Kind,
};

async fn a_removed_user_is_out(kind: Kind) {
    const SOCKETIO: [(&str, &str); 4] =
        [("2", "polling"), ("2", "websocket"), ("4", "polling"), ("4", "websocket")];
    let stack = Stack::start(kind).await;
    let alice = stack.new_tenant().await;
    let joe = alice.create_user_of(&stack, &alice.tenant).await;

    let socketio = async |version: &str, transport: &str| {
        let mut command = node("socketio.js");
        command.args([version, &stack.url(""), &joe.socketio_token().await, "1", "60", transport]);
        command
    };
    let mut clients = Vec::new();
    for (version, transport) in SOCKETIO {
        let client = Listener::connect(socketio(version, transport).await).await;
        clients.push((client, json!({ "disconnected": "io server disconnect" }).to_string()));
    }
    let websocket = async || {
        let path = format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", joe.tenant, joe.ticket().await);
        let mut command = node("websocket.js");
        command.args([stack.websocket_url(&path), "1".to_owned(), "60".to_owned()]);
        command
    };
    let client = Listener::connect(websocket().await).await;
    clients.push((client, json!({ "closed": 4408, "reason": "Connection lifetime" }).to_string()));
    let mut kept = Vec::new();
    for (version, transport) in SOCKETIO {
        kept.push((socketio(version, transport).await, "Authentication error: unknown token"));
    }
    kept.push((websocket().await, r#"{"refused":401}"#));

    let (status, answer) = alice.send(Method::DELETE, &format!("/auth/user/{}", joe.username), None).await;
    assert!(status.is_success(), "{answer}");
    let removed = Instant::now();
    for (client, end) in &mut clients {
        client.hears(end).await;
        println!("{kind:?}: {} ended after {:?}", client.name, removed.elapsed());
    }
    for (command, refusal) in kept {
        let heard = run(command, Duration::from_secs(20)).await;
        assert!(heard.stdout.contains(refusal), "{heard:?}");
        println!("{kind:?}: {}", heard.stdout.trim());
    }
}

#[tokio::test]
async fn a_removed_user_is_out_on_embedded_engines() {
    a_removed_user_is_out(Kind::Embedded).await;
}

#[tokio::test]
async fn a_removed_user_is_out_with_a_process_per_service() {
    a_removed_user_is_out(Kind::Split).await;
}
