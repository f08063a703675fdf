//! The tour of the README, word for word, against every way to run the platform.

use std::time::Duration;

use system_tests::{
    Stack,
    command::{file, run},
    stack::{ADMIN_PASSWORD, Kind},
};
use tokio::process::Command;

async fn tour(kind: Kind) {
    let stack = Stack::start(kind).await;
    let mut demo = Command::new(file("demo/demo.sh"));
    demo.env("GATEWAY", stack.url(""))
        .env("MQTT_PORT", stack.mqtt.port().to_string())
        .env("MQTTS_PORT", stack.mqtt_tls.port().to_string())
        .env("ADMIN_PASSWORD", ADMIN_PASSWORD);
    let outcome = run(demo, Duration::from_mins(3)).await;
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("The tour is complete"), "{}", outcome.stdout);
}

#[tokio::test]
async fn the_tour_works_on_embedded_engines() {
    tour(Kind::Embedded).await;
}

#[tokio::test]
async fn the_tour_works_on_real_engines() {
    tour(Kind::Real).await;
}

#[tokio::test]
async fn the_tour_works_with_a_process_per_service() {
    tour(Kind::Split).await;
}
