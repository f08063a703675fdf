//! What clients send again after a broken connection is on the log once.

use common::testing::TestEngines;

use crate::{
    client::{Client, Hello, Packet, packet, publish},
    platform::Platform,
};

crate::on_both_engines!(
    what_this_process_remembers_is_only_acknowledged,
    what_is_on_the_log_is_only_acknowledged,
    what_never_arrived_is_produced,
    another_device_is_never_mistaken,
    a_client_that_repeats_itself_loses_nothing,
    qos_2_is_recognised_too,
);

const PAYLOAD: &str = r#"{"n":1}"#;

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what a client reads")]
fn ack(kind: u8, id: u8) -> Option<Packet> {
    Some((kind, vec![0, id]))
}

/// Publishes and dies before it has read the acknowledgement.
async fn publish_and_crash(platform: &Platform, device: &str, qos: u8) {
    let mut client = platform.connect(device).await;
    client.send(&publish(qos, false, &platform.attrs(device), 1, PAYLOAD)).await;
    platform.records(1).await;
    client.crash();
}

/// Publishes a last message and checks that it is the next on the log: nothing came between.
async fn nothing_else(platform: &Platform, client: &mut Client) {
    client.publish(&platform.attrs("d1"), 99, r#"{"n":"last"}"#).await;
    assert_eq!(platform.reading().await["attrs"]["n"], "last");
}

async fn what_this_process_remembers_is_only_acknowledged(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    publish_and_crash(&platform, "d1", 1).await;
    let again = publish(1, true, &platform.attrs("d1"), 1, PAYLOAD);
    // Again and again: each time the connection breaks before the client has seen the answer.
    for _ in 0..3 {
        let mut client = platform.connect("d1").await;
        assert_eq!(client.ask(&again).await, ack(0x40, 1));
        client.crash();
    }
    // Also within one connection, as old clients do after a while.
    let mut client = platform.connect("d1").await;
    for _ in 0..2 {
        assert_eq!(client.ask(&again).await, ack(0x40, 1));
    }
    nothing_else(&platform, &mut client).await;
}

async fn what_is_on_the_log_is_only_acknowledged(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    publish_and_crash(&platform, "d1", 1).await;
    let another = platform.another_agent().await;
    let mut client = Client::connect(another, &platform.hello("d1")).await;
    let attrs = platform.attrs("d1");
    let again = |id, n: u32| publish(1, true, &attrs, id, &format!(r#"{{"n":{n}}}"#));
    let mut bytes = again(1, 1);
    bytes.extend(again(2, 2));
    bytes.extend(again(3, 3));
    bytes.extend(packet(0xc0, &[]));
    client.send(&bytes).await;
    for id in 1..=3 {
        loop {
            match client.read().await {
                Some((0xd0, _)) => {}
                answer => break assert_eq!(answer, ack(0x40, id)),
            }
        }
    }
    // The two that never arrived, and nothing else.
    let numbers: Vec<_> = platform.records(2).await.iter().map(|record| record.value.clone()).collect();
    assert!(numbers[0].ends_with(br#"{"n":2}}"#) && numbers[1].ends_with(br#"{"n":3}}"#));
    // From now on the other instance remembers it.
    client.crash();
    let mut client = Client::connect(another, &platform.hello("d1")).await;
    assert_eq!(client.ask(&again(1, 1)).await, ack(0x40, 1));
    nothing_else(&platform, &mut client).await;
}

async fn what_never_arrived_is_produced(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    // Known here, and known nowhere.
    platform.connect("d1").await.crash();
    for hello in [platform.hello("d1"), Hello { id: "new".to_owned(), ..platform.hello("d1") }] {
        let mut client = Client::connect(platform.plain, &hello).await;
        assert_eq!(client.ask(&publish(1, true, &platform.attrs("d1"), 1, PAYLOAD)).await, ack(0x40, 1));
        assert_eq!(platform.reading().await["attrs"]["n"], 1);
        // The packet id is used for another payload: that is another message.
        assert_eq!(client.ask(&publish(1, true, &platform.attrs("d1"), 1, r#"{"n":2}"#)).await, ack(0x40, 1));
        assert_eq!(platform.reading().await["attrs"]["n"], 2);
        // And what is not marked is always new.
        client.publish(&platform.attrs("d1"), 1, r#"{"n":2}"#).await;
        assert_eq!(platform.reading().await["attrs"]["n"], 2);
    }
}

async fn another_device_is_never_mistaken(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    publish_and_crash(&platform, "d1", 1).await;
    // The same client id, packet id and payload.
    let mut client = platform.connect("d2").await;
    assert_eq!(client.ask(&publish(1, true, &platform.attrs("d2"), 1, PAYLOAD)).await, ack(0x40, 1));
    assert_eq!(platform.reading().await["metadata"]["deviceid"], "d2");
}

async fn a_client_that_repeats_itself_loses_nothing(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    for _ in 0..3 {
        client.publish(&platform.attrs("d1"), 1, PAYLOAD).await;
    }
    platform.records(3).await;
    client.crash();
    // Is it the third, or a fourth that never arrived? A beat more does less harm than one less.
    for address in [platform.plain, platform.another_agent().await] {
        let mut client = Client::connect(address, &platform.hello("d1")).await;
        assert_eq!(client.ask(&publish(1, true, &platform.attrs("d1"), 1, PAYLOAD)).await, ack(0x40, 1));
        platform.records(1).await;
        client.crash();
    }
}

async fn qos_2_is_recognised_too(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    publish_and_crash(&platform, "d1", 2).await;
    let again = publish(2, true, &platform.attrs("d1"), 1, PAYLOAD);
    for address in [platform.plain, platform.another_agent().await] {
        let mut client = Client::connect(address, &platform.hello("d1")).await;
        assert_eq!(client.ask(&again).await, ack(0x50, 1));
        assert_eq!(client.ask(&packet(0x62, &[0, 1])).await, ack(0x70, 1));
        nothing_else(&platform, &mut client).await;
    }
}
