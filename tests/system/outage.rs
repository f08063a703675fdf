//! Engines that go away and come back: clear refusals, nothing lost, no restart of anything of ours.

use reqwest::StatusCode;
use serde_json::json;
use system_tests::{
    Stack,
    mqtt::Device,
    publisher::Publisher,
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
    let publisher = Publisher::new(&stack, &api, 2000).await;
    let outage = async {
        until("some acknowledgements", || async { publisher.acknowledged() > 200 }).await;
        engine("kill", "kafka").await;
        engine("restart", "kafka").await;
    };
    tokio::join!(publisher.run(Some((20, 400))), outage);
    println!("{}", publisher.check(&api).await);
}
