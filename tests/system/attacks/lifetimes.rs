//! Nothing that was opened with a token outlives it.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use system_tests::{
    Stack,
    command::{node, run},
    listener::Listener,
    stack::Kind,
};

/// What the promise is: a minute at most.
const GRACE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn sockets_end_with_the_token_that_opened_them() {
    const LIFETIME_S: u64 = 8;
    let stack = Stack::start_with(
        Kind::Embedded,
        &[
            ("TATAMI_AUTH__TOKEN_LIFETIME_S", &LIFETIME_S.to_string()),
            ("TATAMI_AUTH__SESSION_LIFETIME_S", "3600"),
        ],
    )
    .await;
    let admin = stack.admin().await;
    let alice = admin.create_tenant(&stack).await;
    let expires = Instant::now() + Duration::from_secs(LIFETIME_S);

    let path = format!("/kafka-ws/v1/topics/{}.device-data", alice.tenant);
    let mut clients = Vec::new();
    let mut websocket = node("websocket.js");
    let url = stack.websocket_url(&format!("{path}?ticket={}", alice.ticket().await));
    websocket.args([url, "1".to_owned(), "120".to_owned()]);
    let closed = json!({ "closed": 4408, "reason": "Connection lifetime" }).to_string();
    clients.push((Listener::connect(websocket).await, closed));
    for (version, transport) in [("2", "polling"), ("2", "websocket"), ("4", "polling"), ("4", "websocket")] {
        let mut socketio = node("socketio.js");
        socketio.args([version, &stack.url(""), &alice.socketio_token().await, "1", "120", transport]);
        let disconnected = json!({ "disconnected": "io server disconnect" }).to_string();
        clients.push((Listener::connect(socketio).await, disconnected));
    }
    // What was not used yet, too.
    let (ticket, token) = (alice.ticket().await, alice.socketio_token().await);
    assert!(Instant::now() < expires, "the machine is too slow for a token of {LIFETIME_S} s");

    for (client, end) in &mut clients {
        client.hears(end).await;
        let late = Instant::now().saturating_duration_since(expires);
        println!("{} ended {late:?} after its token", client.name);
        assert!(late < GRACE, "{} lived {late:?} too long", client.name);
    }
    assert_eq!(alice.status("/device").await, StatusCode::UNAUTHORIZED);
    let mut websocket = node("websocket.js");
    websocket.args([
        stack.websocket_url(&format!("{path}?ticket={ticket}")),
        "1".to_owned(),
        "10".to_owned(),
    ]);
    let mut socketio = node("socketio.js");
    socketio.args(["4", &stack.url(""), &token, "1", "10"]);
    for (command, refusal) in
        [(websocket, "\"closed\":4408"), (socketio, "Authentication error: unknown token")]
    {
        let heard = run(command, Duration::from_secs(20)).await;
        assert!(heard.stdout.contains(refusal), "{heard:?}");
    }
}
