//! Engines that go away and come back: clear refusals, nothing lost, no restart of anything of ours.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use system_tests::{
    Stack,
    command::{python, run},
    mqtt::Device,
    stack::{Kind, engine, until},
};

#[tokio::test]
async fn every_engine_may_go_away_and_come_back() {
    let stack = Stack::start(Kind::Real).await;
    let api = stack.new_tenant().await;
    let device = api.create_device().await;
    let credentials = api.credentials(&device).await;
    let path = format!("/device/{device}");
    let history = format!("/history/device/{device}/history?attr=temperature");
    let publish = Device::with_password(&stack, &credentials);
    let topic = format!("{}:{device}/attrs", api.tenant);
    assert_eq!(publish.publish(&topic, 1, r#"{"temperature": 1}"#).await.code, Some(0));
    until("the first reading", || async { api.history(&device, "temperature", 5).await == [json!(1)] }).await;

    for (name, probe) in
        [("postgres", path.as_str()), ("mongodb", history.as_str()), ("redis", "/kafka-ws/v1/ticket")]
    {
        engine("kill", name).await;
        until("a refusal with 503", || async { api.status(probe).await == StatusCode::SERVICE_UNAVAILABLE })
            .await;
        engine("restart", name).await;
        until("an answer again", || async { api.status(probe).await.is_success() }).await;
    }
}

#[tokio::test]
async fn publishers_wait_while_kafka_is_away() {
    let stack = Stack::start(Kind::Real).await;
    let api = stack.new_tenant().await;
    let device = api.create_device().await;
    let credentials = api.credentials(&device).await;
    let list = stack.file("acknowledged");
    let mut publisher = python("publisher.py");
    publisher.args([
        "127.0.0.1",
        &stack.mqtt.port().to_string(),
        &credentials.username,
        &credentials.password,
    ]);
    publisher.arg(format!("{}:{device}/attrs", api.tenant)).arg("2000").arg(&list).args(["20", "400"]);
    let publishing = run(publisher, Duration::from_secs(200));
    let outage = async {
        let acknowledged = || std::fs::read_to_string(&list).map_or(0, |text| text.lines().count());
        until("some acknowledgements", || async { acknowledged() > 200 }).await;
        engine("kill", "kafka").await;
        engine("restart", "kafka").await;
    };
    let (outcome, ()) = tokio::join!(publishing, outage);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let mut stored = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    let mut backoff = common::backoff::Backoff::default();
    while stored.len() < 2000 && tokio::time::Instant::now() < deadline {
        stored = api.history(&device, "number", 10_000).await;
        backoff.wait().await;
    }
    let total = stored.len();
    stored.sort_by_key(serde_json::Value::as_u64);
    stored.dedup();
    assert_eq!((stored.len(), total), (2000, 2000), "different numbers and stored samples");
}
