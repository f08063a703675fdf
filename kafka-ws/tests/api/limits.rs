//! Slow readers, dead peers and too many sockets.

use std::time::Duration;

use common::testing::{eventually, fresh_tenant, user_of};
use futures_util::StreamExt;
use reqwest::StatusCode;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Stack, config, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_cut_and_the_others_go_on() {
    const RECORDS: usize = 100;
    let config = kafka_ws::Config { queue_bytes: 256 * 1024, ..config() };
    for stack in Stack::both_with(&config).await {
        let mut slow = stack.subscribe_with_small_buffers("device-data").await;
        let mut quick = stack.subscribe("device-data").await;
        let padding = "x".repeat(100_000);
        for n in 0..RECORDS {
            stack.append("device-data", format!(r#"{{"n":{n},"p":"{padding}"}}"#)).await;
            assert!(text(&mut quick).await.starts_with(&format!(r#"{{"n":{n},"#)), "{n}");
        }
        let mut received = 0;
        let end = loop {
            match tokio::time::timeout(Duration::from_secs(10), slow.next()).await.expect("it was cut") {
                Some(Ok(Message::Text(_))) => received += 1,
                Some(Ok(Message::Ping(_))) => {}
                other => break other,
            }
        };
        // Who wakes up in time learns the reason; for the others the connection just breaks off.
        if let Some(Ok(end)) = end {
            let Message::Close(Some(frame)) = end else { panic!("{end:?}") };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1013, "Too slow"));
        }
        assert!(received < RECORDS, "the slow one was cut");
        stack.append("device-data", "[1]").await;
        assert_eq!(text(&mut quick).await, "[1]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_pinged_and_dead_peers_are_cut() {
    let config = kafka_ws::Config { ping_interval_s: 1, max_sockets_per_tenant: 1, ..config() };
    for stack in Stack::both_with(&config).await {
        // This client reads nothing, so it never answers a ping.
        let dead = stack.subscribe("device-data").await;
        let mut alive = eventually("the dead peer is cut", async || {
            let path =
                format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", stack.tenant, stack.ticket().await);
            stack.connect(&path).await.ok()
        })
        .await;
        drop(dead);
        // This one answers, and lives on for longer than a dead one.
        let pings = async {
            for _ in 0..4 {
                assert!(matches!(alive.next().await, Some(Ok(Message::Ping(_)))));
            }
        };
        tokio::time::timeout(Duration::from_secs(20), pings).await.expect("four pings");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_sockets_and_no_more() {
    for stack in
        Stack::both_with(&kafka_ws::Config { max_sockets_per_tenant: 2, max_sockets: 3, ..config() }).await
    {
        let path = async || {
            format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", stack.tenant, stack.ticket().await)
        };
        let first = stack.connect(&path().await).await.unwrap();
        let _second = stack.connect(&path().await).await.unwrap();
        assert_eq!(stack.connect(&path().await).await.unwrap_err().0, StatusCode::TOO_MANY_REQUESTS);
        let other = async || {
            let tenant = fresh_tenant();
            let ticket = stack.ticket_of(&user_of(&tenant)).await;
            stack.connect(&format!("/kafka-ws/v1/topics/{tenant}.device-data?ticket={ticket}")).await
        };
        let _third = other().await.unwrap();
        assert_eq!(other().await.unwrap_err().0, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        eventually("there is room again", async || stack.connect(&path().await).await.ok()).await;
    }
}
