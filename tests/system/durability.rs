//! Nothing acknowledged is lost, and nothing is stored twice, through SIGKILL in the middle of the work.

use system_tests::{
    Stack,
    publisher::Publisher,
    stack::{Kind, until},
};

const MESSAGES: usize = 20_000;

/// Publishes numbers at QoS 1 while `victims` are killed one after the other, and checks the history.
async fn survives(kind: Kind, victims: &[&str]) {
    let mut stack = Stack::start(kind).await;
    let api = stack.new_tenant().await;
    let publisher = Publisher::new(&stack, &api, MESSAGES).await;
    let killing = async {
        for (round, victim) in victims.iter().enumerate() {
            let enough = MESSAGES * (round + 1) / (victims.len() + 1);
            let is_enough = || async { publisher.acknowledged() >= enough };
            until("enough acknowledgements before the next kill", is_enough).await;
            stack.kill_and_restart(victim).await;
            println!("killed {victim} after {enough} acknowledgements");
        }
    };
    tokio::join!(publisher.run(None), killing);
    stack.ready().await;
    println!("gateway {}: {}", stack.gateway, publisher.check(&api).await);
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
