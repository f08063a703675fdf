//! What devices publish, and what becomes of it.

use common::{testing::TestEngines, wire::header};
use serde_json::json;

use crate::{
    client::{Client, packet, publish, publish_at},
    platform::{GENERATION, Platform},
};

crate::on_both_engines!(
    a_publish_is_acknowledged_and_on_the_log,
    the_time_of_the_payload_counts,
    qos_0_and_2_work,
    many_publishes_are_acknowledged_in_order,
    payloads_that_are_no_object_are_dropped,
    topics_of_others_are_refused,
    a_will_is_published_after_an_unclean_end,
    packets_in_pieces_and_packets_together_are_the_same,
);

async fn a_publish_is_acknowledged_and_on_the_log(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let tenant = &platform.tenant;
    let payload = r#"{"temperature": 23.50, "text":"ä"}"#;
    for (level, topic) in
        [(3, platform.attrs("d1")), (4, format!("/{tenant}/d1/attrs")), (5, platform.attrs("d1"))]
    {
        let before = platform.engines.engines.clock.now_ms();
        let mut client = Client::connect(platform.plain, &platform.hello("d1").level(level)).await;
        let answer = client.ask(&publish_at(level, 1, false, &topic, 7, payload)).await;
        assert_eq!(answer, Some((0x40, vec![0, 7])), "level {level}");
        let record = platform.records(1).await.remove(0);
        assert_eq!(record.key.as_deref(), Some(format!("{tenant}:d1").as_bytes()));
        assert_eq!(record.header(header::ORIGIN).map(bytes::Bytes::len), Some(16));
        assert_eq!(record.generation(), GENERATION);
        let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        let arrived = value["metadata"]["timestamp"].as_i64().unwrap();
        assert!((before..=platform.engines.engines.clock.now_ms()).contains(&arrived));
        let expected = format!(
            r#"{{"metadata":{{"deviceid":"d1","tenant":"{tenant}","timestamp":{arrived}}},"attrs":{payload}}}"#
        );
        assert_eq!(std::str::from_utf8(&record.value), Ok(expected.as_str()));
    }
}

async fn the_time_of_the_payload_counts(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    for (id, timestamp, expected) in [
        (1, json!(1_528_226_137_452_i64), 1_528_226_137_452_i64),
        (2, json!("2018-06-05T19:15:37Z"), 1_528_226_137_000),
    ] {
        let payload = json!({ "timestamp": timestamp }).to_string();
        client.publish(&platform.attrs("d1"), id, &payload).await;
        let reading = platform.reading().await;
        assert_eq!(reading["metadata"]["timestamp"], expected);
        assert_eq!(reading["attrs"]["timestamp"], timestamp);
    }
}

async fn qos_0_and_2_work(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    let attrs = platform.attrs("d1");
    client.send(&publish(0, false, &attrs, 0, r#"{"n":0}"#)).await;
    let record = platform.records(1).await.remove(0);
    assert!(record.header(header::ORIGIN).is_none());
    assert_eq!(record.generation(), GENERATION);

    let message = publish(2, false, &attrs, 9, r#"{"n":2}"#);
    let received = Some((0x50, vec![0, 9]));
    assert_eq!(client.ask(&message).await, received);
    // Sent again before its PUBREL: the same message, with or without the mark.
    assert_eq!(client.ask(&message).await, received);
    assert_eq!(client.ask(&publish(2, true, &attrs, 9, r#"{"n":2}"#)).await, received);
    let release = packet(0x62, &[0, 9]);
    assert_eq!(client.ask(&release).await, Some((0x70, vec![0, 9])));
    // Released twice: nothing to release, and the client wants to go on.
    assert_eq!(client.ask(&release).await, Some((0x70, vec![0, 9])));
    assert_eq!(client.ask(&message).await, received);
    let values: Vec<_> = platform.records(2).await.iter().map(|record| record.value.clone()).collect();
    assert!(values.iter().all(|value| value.ends_with(br#""attrs":{"n":2}}"#)));
    client.publish(&attrs, 1, r#"{"n":"last"}"#).await;
    assert_eq!(platform.reading().await["attrs"]["n"], "last");
}

async fn many_publishes_are_acknowledged_in_order(engines: TestEngines) {
    const MESSAGES: u16 = 2000;
    let platform = Platform::start(engines).await;
    let client = platform.connect("d1").await;
    let attrs = platform.attrs("d1");
    let (read, mut write) = client.0.into_split();
    let sending = async {
        use tokio::io::AsyncWriteExt;
        for id in 1..=MESSAGES {
            let qos = if id % 3 == 0 { 2 } else { 1 };
            let message = publish(qos, false, &attrs, id, &json!({ "n": id }).to_string());
            write.write_all(&message).await.unwrap();
        }
    };
    let reading = async {
        let mut client = Client(tokio::io::join(read, tokio::io::sink()));
        for id in 1..=MESSAGES {
            let kind = if id % 3 == 0 { 0x50 } else { 0x40 };
            assert_eq!(client.read().await, Some((kind, id.to_be_bytes().to_vec())));
        }
    };
    tokio::join!(sending, reading);
    let records = platform.records(usize::from(MESSAGES)).await;
    let numbers = records.iter().map(|record| {
        let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        value["attrs"]["n"].as_u64().unwrap()
    });
    assert!(numbers.eq(1..=u64::from(MESSAGES)));
}

async fn payloads_that_are_no_object_are_dropped(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let attrs = platform.attrs("d1");
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    for level in [4, 5] {
        let mut client = Client::connect(platform.plain, &platform.hello("d1").level(level)).await;
        let acknowledged = |kind| {
            let code: &[u8] = if level == 5 { &[0, 3, 0x99] } else { &[0, 3] };
            Some((kind, code.to_vec()))
        };
        for payload in ["", "no json", "[1]", "null", "1", r#"{"a":1"#, &deep] {
            for (qos, kind) in [(1, 0x40), (2, 0x50)] {
                let answer = client.ask(&publish_at(level, qos, false, &attrs, 3, payload)).await;
                assert_eq!(answer, acknowledged(kind), "{level} {qos}");
            }
            client.send(&publish_at(level, 0, false, &attrs, 0, payload)).await;
        }
        let answer = client.ask(&publish_at(level, 1, false, &attrs, 4, r#"{"a":1}"#)).await;
        assert_eq!(answer, Some((0x40, vec![0, 4])));
    }
    // Nothing but the two good ones.
    for record in platform.records(2).await {
        assert!(record.value.ends_with(br#""attrs":{"a":1}}"#));
    }
}

async fn topics_of_others_are_refused(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let other = common::testing::fresh_tenant();
    let topics = [
        format!("{other}:d1/attrs"),
        format!("/{other}/d1/attrs"),
        platform.attrs("d2"),
        format!("{}/x", platform.attrs("d1")),
        platform.config_topic("d1"),
        "$SYS/x".to_owned(),
        "x".to_owned(),
    ];
    for topic in &topics {
        // 3.1.1 has no other way to say no.
        let mut client = platform.connect("d1").await;
        assert_eq!(client.ask(&publish(1, false, topic, 1, "{}")).await, None, "{topic}");
        for (level, code) in [(3, vec![0, 1]), (5, vec![0, 1, 0x87])] {
            let mut client = Client::connect(platform.plain, &platform.hello("d1").level(level)).await;
            let answer = client.ask(&publish_at(level, 1, false, topic, 1, "{}")).await;
            assert_eq!(answer, Some((0x40, code)), "{topic}");
            assert!(client.is_alive().await);
        }
    }
    platform.connect("d1").await.publish(&platform.attrs("d1"), 1, r#"{"a":1}"#).await;
    assert_eq!(platform.reading().await["attrs"]["a"], 1);
}

async fn a_will_is_published_after_an_unclean_end(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut hello = platform.hello("d1");
    hello.will = Some((platform.attrs("d1"), r#"{"alive":false}"#.to_owned()));
    // A goodbye needs no will.
    let mut client = Client::connect(platform.plain, &hello).await;
    client.send(&packet(0xe0, &[])).await;
    assert_eq!(client.read().await, None);
    // A crash does, in each version, and so does silence.
    for level in [3, 4, 5] {
        Client::connect(platform.plain, &hello.clone().level(level)).await.crash();
        assert_eq!(platform.reading().await["attrs"]["alive"], false);
    }
    hello.keep_alive = 1;
    let mut client = Client::connect(platform.plain, &hello).await;
    assert_eq!(client.read().await, None);
    assert_eq!(platform.reading().await["attrs"]["alive"], false);
}

async fn packets_in_pieces_and_packets_together_are_the_same(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let attrs = platform.attrs("d1");
    // Everything in one write, the CONNECT too.
    let mut bytes = platform.hello("d1").bytes();
    (1..=3).for_each(|id| bytes.extend(publish(1, false, &attrs, id, r#"{"a":1}"#)));
    bytes.extend(packet(0xc0, &[]));
    let mut client = Client::open(platform.plain).await;
    client.send(&bytes).await;
    assert_eq!(client.read().await, Some((0x20, vec![0, 0])));
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(client.read().await.unwrap().0);
    }
    answers.sort_unstable();
    assert_eq!(answers, [0x40, 0x40, 0x40, 0xd0]);
    // And byte by byte.
    let mut client = Client::open(platform.plain).await;
    for byte in bytes {
        client.send(&[byte]).await;
    }
    assert_eq!(client.read().await, Some((0x20, vec![0, 0])));
    platform.records(6).await;
}
