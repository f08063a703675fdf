//! One tenant sees nothing of another, whatever it tries.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use system_tests::{
    Stack,
    api::Credentials,
    command::{node, run},
    mqtt::Device,
    stack::Kind,
};

/// How mosquitto's publisher ends when the server closes the connection: MQTT 3.1.1 has no other way to refuse a publish.
const CONNECTION_LOST: i32 = 7;

async fn tenants_are_apart(kind: Kind) {
    let stack = Stack::start(kind).await;
    let (alice, bob) = (stack.new_tenant().await, stack.new_tenant().await);
    let device = alice.create_device().await;
    let own = bob.create_device().await;

    // REST: what belongs to another tenant does not exist.
    for (method, path, body, expected) in [
        (Method::GET, format!("/device/{device}"), None, 404),
        (Method::PUT, format!("/device/{device}"), Some(json!({ "label": "x", "templates": [1] })), 404),
        (Method::DELETE, format!("/device/{device}"), None, 404),
        (Method::PUT, format!("/device/{device}/actuate"), Some(json!({ "attrs": { "fan": 1 } })), 404),
        (Method::GET, format!("/history/device/{device}/history?attr=temperature"), None, 404),
        (Method::GET, format!("/auth/user/{}", alice.username), None, 404),
        (Method::POST, format!("/auth/pap/usergroup/{}/user", alice.username), None, 404),
        (Method::DELETE, format!("/auth/pap/usergroup/{}/admin", alice.username), None, 404),
        (Method::POST, format!("/auth/pap/userpermissions/{}/all_all", alice.username), None, 404),
        (Method::GET, format!("/auth/pap/user/{}/groups", alice.username), None, 404),
        (Method::POST, "/auth/pap/group".to_owned(), Some(json!({ "name": "mine" })), 403),
        (Method::POST, format!("/basic-auth/v1/devices/{device}/basic-credentials"), None, 400),
    ] {
        let (status, answer) = bob.send(method.clone(), &path, body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {answer}");
    }
    assert_eq!(alice.status(&format!("/device/{device}")).await, StatusCode::OK);

    // MQTT: a device reaches its own topics only.
    let credentials = bob.credentials(&own).await;
    let thief = Device::with_password(&stack, &credentials);
    let foreign = format!("{}:{device}", alice.tenant);
    let published = thief.publish(&format!("{foreign}/attrs"), 1, r#"{"temperature": 1}"#).await;
    assert_eq!(published.code, Some(CONNECTION_LOST), "a foreign topic: {published:?}");
    for filter in [
        format!("{foreign}/config"),
        "#".to_owned(),
        "+/config".to_owned(),
        format!("$share/g/{foreign}/config"),
    ] {
        assert!(!thief.subscribe(&filter).await.granted, "{filter}");
    }
    let posing = Credentials {
        username: format!("{}@{device}", alice.tenant),
        password: credentials.password.clone(),
    };
    let refused = Device::with_password(&stack, &posing).publish(&format!("{foreign}/attrs"), 1, "{}").await;
    assert_ne!(refused.code, Some(0), "a foreign user name was accepted");

    // Websocket and socket.io.
    let path = format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", alice.tenant, bob.ticket().await);
    let mut listen = node("websocket.js");
    listen.args([stack.websocket_url(&path), "1".to_owned(), "10".to_owned()]);
    let heard = run(listen, Duration::from_secs(20)).await;
    assert!(heard.stdout.contains("4403"), "{heard:?}");
    let mut listen = node("socketio.js");
    listen.args(["4".to_owned(), stack.url(""), bob.socketio_token().await, "1".to_owned(), "4".to_owned()]);
    let listening = run(listen, Duration::from_secs(20));
    let publishing = async {
        let credentials = alice.credentials(&device).await;
        let topic = format!("{foreign}/attrs");
        let sent =
            Device::with_password(&stack, &credentials).publish(&topic, 1, r#"{"temperature": 2}"#).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
    };
    let (heard, ()) = tokio::join!(listening, publishing);
    assert!(!heard.stdout.contains("temperature"), "{heard:?}");

    // What the stranger published on a foreign topic is nowhere.
    system_tests::stack::until("the reading of the device itself", || async {
        alice.history(&device, "temperature", 10).await == [json!(2)]
    })
    .await;
}

#[tokio::test]
async fn tenants_are_apart_on_embedded_engines() {
    tenants_are_apart(Kind::Embedded).await;
}

#[tokio::test]
async fn tenants_are_apart_on_real_engines() {
    tenants_are_apart(Kind::Real).await;
}
