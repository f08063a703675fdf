//! Two processes of a service share the work, and what one of them learns the other knows.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use system_tests::{
    Api, Stack,
    mqtt::Device,
    publisher::Publisher,
    stack::{Kind, until},
};

#[tokio::test]
async fn two_processes_of_a_service_are_one_service() {
    let mut stack = Stack::start(Kind::Split).await;
    let gateway = stack.start_second("gateway").await;
    let agent = stack.start_second("iot-agent-mqtt").await;
    for service in ["auth", "device-manager", "data-broker", "persister", "x509-identity"] {
        stack.start_second(service).await;
    }
    let api = stack.new_tenant().await;
    an_actuation_reaches_a_device_of_either_agent(&stack, &api, agent).await;
    nothing_is_lost_when_one_of_two_dies(&mut stack, &api, agent).await;
    a_revocation_is_known_at_both_gateways(&stack, &api, gateway).await;
    a_name_comes_back_clean(&stack).await;
    what_an_agent_is_late_with_is_not_shown_to_the_next_tenant(&stack, agent).await;
}

async fn what_an_agent_is_late_with_is_not_shown_to_the_next_tenant(
    stack: &Stack,
    second: std::net::SocketAddr,
) {
    let admin = stack.admin().await;
    let former = admin.create_user_of(stack, "late").await;
    let device = former.create_device().await;
    let topic = format!("late:{device}/attrs");
    let at_second = Device::with_password_at(second, &former.credentials(&device).await);
    let mut publisher = at_second.stream(&topic);
    publisher.publish(r#"{"temperature": 1}"#).await;
    until("the first reading", || async { former.history(&device, "temperature", 1).await == [json!(1)] })
        .await;

    // What is sent to it now lies in the buffers of its connection until it runs again.
    stack.signal("STOP", "iot-agent-mqtt-2").await;
    for late in 0..5 {
        publisher.publish(&format!(r#"{{"temperature": 66{late}}}"#)).await;
    }
    let (status, _) = admin.send(Method::DELETE, &format!("/auth/user/{}", former.username), None).await;
    assert_eq!(status, StatusCode::OK);
    // Its name is given again while the agent stands still: the other one has confirmed.
    let next = admin.create_user_of(stack, "late").await;
    let own = next.create_device().await;
    stack.signal("CONT", "iot-agent-mqtt-2").await;

    let own_topic = format!("late:{own}/attrs");
    let credentials = next.credentials(&own).await;
    let at_second = Device::with_password_at(second, &credentials);
    until("the agent serves the new tenant", || async {
        at_second.publish(&own_topic, 1, r#"{"temperature": 2}"#).await.code == Some(0)
    })
    .await;
    until("its reading", || async { next.history(&own, "temperature", 10).await.first() == Some(&json!(2)) })
        .await;
    let found = next.history(&device, "temperature", 10).await;
    assert_eq!(found, [serde_json::Value::Null; 0], "readings of the former tenant");
}

async fn an_actuation_reaches_a_device_of_either_agent(
    stack: &Stack,
    api: &Api,
    second: std::net::SocketAddr,
) {
    for agent in [stack.mqtt, second] {
        let device = api.create_device().await;
        let credentials = api.credentials(&device).await;
        let topic = format!("{}:{device}/config", api.tenant);
        let mut subscription = Device::with_password_at(agent, &credentials).subscribe(&topic).await;
        assert!(subscription.granted);
        api.put(&format!("/device/{device}/actuate"), json!({ "attrs": { "fan": 7 } })).await;
        assert_eq!(subscription.next().await, Some(format!(r#"{topic} {{"fan":7}}"#)), "{agent}");
    }
}

async fn nothing_is_lost_when_one_of_two_dies(stack: &mut Stack, api: &Api, second: std::net::SocketAddr) {
    const MESSAGES: usize = 5_000;
    let one = Publisher::new(stack, api, MESSAGES).await;
    let other = Publisher::new(stack, api, MESSAGES).await.at(second);
    let killing = async {
        for (victim, enough) in [("persister", 1000), ("persister-2", 2500), ("iot-agent-mqtt-2", 3500)] {
            until("enough acknowledgements", || async { other.acknowledged() >= enough }).await;
            stack.kill_and_restart(victim).await;
        }
    };
    let pace = Some((50, 400));
    tokio::join!(one.run(pace), other.run(pace), killing);
    stack.ready().await;
    for publisher in [one, other] {
        println!("{}", publisher.check(api).await);
    }
}

async fn a_revocation_is_known_at_both_gateways(stack: &Stack, api: &Api, second: std::net::SocketAddr) {
    let colleague = api.create_user_of(stack, &api.tenant).await;
    let elsewhere = colleague.at(second);
    for user in [&colleague, &elsewhere] {
        assert_eq!(user.status("/device").await, StatusCode::OK);
    }
    let (status, _) = api.send(Method::DELETE, &format!("/auth/user/{}", colleague.username), None).await;
    assert_eq!(status, StatusCode::OK);
    let refused = async {
        for user in [&colleague, &elsewhere] {
            until("401", || async { user.status("/device").await == StatusCode::UNAUTHORIZED }).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(5), refused).await.is_ok(),
        "a revocation is known soon"
    );
}

/// Both processes of each service hear of every removal, and the later one finds nothing to do.
async fn a_name_comes_back_clean(stack: &Stack) {
    let admin = stack.admin().await;
    for round in 0..5 {
        let user = admin.create_user_of(stack, "twice").await;
        assert_eq!(user.get("/device").await["devices"], json!([]), "round {round}");
        assert_eq!(user.get("/template").await["templates"], json!([]), "round {round}");
        user.create_device().await;
        let (status, _) = admin.send(Method::DELETE, &format!("/auth/user/{}", user.username), None).await;
        assert_eq!(status, StatusCode::OK);
    }
}
