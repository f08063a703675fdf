//! Nothing acknowledged is lost, and nothing is stored twice, through SIGKILL in the middle of the work.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::Value;
use system_tests::{
    Api, Stack,
    command::{Outcome, python, run},
    stack::{Kind, until},
};

const MESSAGES: usize = 20_000;

/// Publishes numbers at QoS 1 while `victims` are killed one after the other, and checks the history.
async fn survives(kind: Kind, victims: &[&str]) {
    let mut stack = Stack::start(kind).await;
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
    publisher.arg(format!("{}:{device}/attrs", api.tenant)).arg(MESSAGES.to_string()).arg(&list);
    let publishing = run(publisher, Duration::from_secs(400));
    let killing = async {
        for (round, victim) in victims.iter().enumerate() {
            let enough = MESSAGES * (round + 1) / (victims.len() + 1);
            until("enough acknowledgements before the next kill", || async { lines(&list) >= enough }).await;
            stack.kill_and_restart(victim).await;
            println!("killed {victim} after {enough} acknowledgements");
        }
    };
    let (outcome, ()) = tokio::join!(publishing, killing);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    stack.ready().await;
    check(&stack, &api, &device, &list, &outcome).await;
}

async fn check(stack: &Stack, api: &Api, device: &str, list: &Path, outcome: &Outcome) {
    let acknowledged: Vec<u64> =
        fs::read_to_string(list).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(acknowledged.len(), MESSAGES, "{outcome:?}");
    let mut stored = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    let mut backoff = common::backoff::Backoff::up_to(Duration::from_millis(500));
    while stored.len() < MESSAGES && tokio::time::Instant::now() < deadline {
        stored = api.history(device, "number", 2 * MESSAGES).await;
        backoff.wait().await;
    }
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for number in stored.iter().filter_map(Value::as_u64) {
        *counts.entry(number).or_default() += 1;
    }
    let missing: Vec<_> = acknowledged.iter().filter(|number| !counts.contains_key(number)).collect();
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    println!(
        "gateway {}: acknowledged {}, stored {}, lost {}, twice {}",
        stack.gateway,
        acknowledged.len(),
        stored.len(),
        missing.len(),
        twice.len()
    );
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    assert!(twice.is_empty(), "stored twice: {twice:?}");
}

fn lines(list: &Path) -> usize {
    fs::read_to_string(list).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn nothing_is_lost_when_the_platform_is_killed_on_embedded_engines() {
    survives(Kind::Embedded, &["up", "up"]).await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_platform_is_killed_on_real_engines() {
    survives(Kind::Real, &["up", "up"]).await;
}

#[tokio::test]
async fn nothing_is_lost_when_persister_and_agent_are_killed() {
    survives(Kind::Split, &["persister", "iot-agent-mqtt", "persister"]).await;
}
