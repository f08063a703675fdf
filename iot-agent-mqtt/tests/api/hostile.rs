//! Packets that no client should send. Each costs its own connection and nothing else.

use common::testing::{TestEngines, eventually};
use iot_agent_mqtt::Config;

use crate::{
    client::{Client, Hello, packet, publish, text},
    platform::{PASSWORD, Platform, config},
};

crate::on_both_engines!(
    hostile_first_packets_close_their_connection,
    hostile_packets_close_their_connection,
    qos_2_publishes_without_an_end_are_stopped,
    a_client_that_never_reads_is_not_fed,
    an_address_has_so_many_connections_and_no_more,
);

async fn an_address_has_so_many_connections_and_no_more(engines: TestEngines) {
    let platform = Platform::start_with(engines, Config { max_connections_per_address: 2, ..config() }).await;
    let is_welcome = async |client: &str| {
        let mut connection = Client::open(platform.plain).await;
        let hello = Hello::new(client, &format!("{}@d1", platform.tenant), PASSWORD).bytes();
        let answer = connection.ask(&hello).await;
        answer.is_some().then_some(connection)
    };
    let (first, second) = (is_welcome("a").await, is_welcome("b").await);
    assert!(first.is_some() && second.is_some());
    assert!(is_welcome("c").await.is_none(), "one more");
    drop(first);
    eventually("a place is free", async || is_welcome("d").await).await;
}

async fn hostile_first_packets_close_their_connection(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut honest = platform.connect("d1").await;
    let hello = platform.hello("d2").bytes();
    let changed = |at: usize, byte: u8| {
        let mut frame = hello.clone();
        frame[at] = byte;
        frame
    };
    let huge = platform.attrs("d2").repeat(10_000);
    let frames = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), // a TLS hello on the plain port
        vec![0x10, 0xff, 0xff, 0xff, 0x7f],                   // 256 MiB claimed before anybody is known
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x01],             // a length of five bytes
        packet(0x10, text(&"x".repeat(65_000)).repeat(2).as_slice()),
        packet(0x30, huge.as_bytes()), // a big first packet that is no CONNECT
        publish(1, false, &platform.attrs("d2"), 1, "{}"), // a publish before CONNECT
        packet(0xc0, &[]),
        packet(0x20, &[0, 0]),
        vec![0, 0],
        packet(0x10, &[]),
        packet(0x10, &text("MQTT")),
        changed(9, 0xff), // impossible connect flags
        changed(9, 0xc3), // reserved connect flag
        changed(9, 0xda), // a will that is not there
        changed(4, b'X'), // MXTT
        changed(0, 0x11), // reserved flags
        hello[..hello.len() - 3].iter().copied().chain([0xff; 3]).collect(),
    ];
    for (number, frame) in frames.iter().enumerate() {
        let mut client = Client::open(platform.plain).await;
        // At most a refusal, then the end.
        if let Some((kind, content)) = client.ask(frame).await {
            assert_eq!(kind, 0x20, "{number}");
            assert_ne!(content[1], 0, "{number}");
            assert_eq!(client.read().await, None, "{number}");
        }
        assert!(honest.is_alive().await, "{number}");
    }
}

async fn hostile_packets_close_their_connection(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut honest = platform.connect("d1").await;
    let attrs = platform.attrs("d2");
    let raw_topic = |topic: &[u8]| {
        let mut content = (topic.len() as u16).to_be_bytes().to_vec();
        content.extend_from_slice(topic);
        content.extend_from_slice(b"{}");
        packet(0x30, &content)
    };
    let frames = [
        (4, platform.hello("d2").bytes()),             // a second CONNECT
        (4, packet(0x20, &[0, 0])),                    // CONNACK
        (4, packet(0x90, &[0, 1, 0])),                 // SUBACK
        (4, packet(0xd0, &[])),                        // PINGRESP
        (4, packet(0x50, &[0, 1])),                    // PUBREC for nothing
        (4, vec![0x30, 0xff, 0xff, 0xff, 0x7f]),       // 256 MiB
        (4, vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01]), // a length of five bytes
        (4, vec![0, 0]),                               // packet type 0
        (4, vec![0xf0, 0]),                            // packet type 15 in version 3
        (4, raw_topic(b"")),                           // no topic
        (4, raw_topic(b"#")),
        (4, raw_topic(b"a/+/b")),
        (4, raw_topic(b"a\0b")),
        (4, raw_topic(b"\xff\xfe")),
        (4, raw_topic(&[0xed, 0xa0, 0x80])),    // a surrogate
        (4, packet(0x30, &[0xff, 0xff, b'a'])), // a topic longer than its packet
        (4, packet(0x30, &[])),
        (4, publish(3, false, &attrs, 1, "{}")),               // QoS 3
        (4, publish(1, false, &attrs, 0, "{}")),               // packet id 0
        (4, publish(0, true, &attrs, 0, "{}")),                // DUP with QoS 0
        (4, packet(0x80, &[0, 1, 0, 1, b'a', 0])),             // SUBSCRIBE with wrong flags
        (4, packet(0x82, &[0, 1])),                            // SUBSCRIBE without a filter
        (4, packet(0x82, &[0, 1, 0, 0, 0])),                   // SUBSCRIBE with an empty filter
        (4, packet(0x82, &[0, 1, 0, 1, b'a', 3])),             // SUBSCRIBE with QoS 3
        (4, packet(0x82, &[0, 0, 0, 1, b'a', 0])),             // SUBSCRIBE with packet id 0
        (4, packet(0xa2, &[0, 1])),                            // UNSUBSCRIBE without a filter
        (4, packet(0x60, &[0, 1])),                            // PUBREL with wrong flags
        (4, packet(0x40, &[0])),                               // half a PUBACK
        (4, packet(0xc0, &[0])),                               // PINGREQ with content
        (5, packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 1])),       // a topic alias that was not offered
        (5, packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 0])),       // topic alias 0
        (5, packet(0x30, &[0, 1, b'a', 2, 0x0b, 1])),          // a subscription identifier from a client
        (5, packet(0x30, &[0, 1, b'a', 0xff, 0xff, 0x7f])),    // properties longer than the packet
        (5, packet(0x30, &[0, 1, b'a', 4, 1, 0, 1, 0])),       // a property twice
        (5, packet(0x30, &[0, 1, b'a', 1, 0x26])),             // half a property
        (5, packet(0x82, &[0, 1, 2, 0x0b, 1, 0, 1, b'a', 0])), // a subscription identifier that was not offered
        (5, packet(0x82, &[0, 1, 0, 0, 1, b'a', 0xc0])),       // reserved subscription options
        (5, packet(0xf0, &[0x18, 0])),                         // AUTH that nobody asked for
    ];
    for (number, (level, frame)) in frames.iter().enumerate() {
        let mut client = Client::connect(platform.plain, &platform.hello("d2").level(*level)).await;
        let mut answer = client.ask(frame).await;
        if let (5, Some((kind, reason))) = (level, &answer) {
            assert_eq!(*kind, 0xe0, "{number}");
            assert!(reason[0] >= 0x80, "{number}");
            answer = client.read().await;
        }
        assert_eq!(answer, None, "{number}: {frame:?}");
        assert!(honest.is_alive().await, "{number}");
    }
    honest.publish(&platform.attrs("d1"), 1, r#"{"honest":true}"#).await;
    assert_eq!(platform.reading().await["attrs"]["honest"], true);
}

async fn qos_2_publishes_without_an_end_are_stopped(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    let attrs = platform.attrs("d1");
    let mut ended = false;
    for id in 1..=2000 {
        let Some((kind, _)) = client.ask(&publish(2, false, &attrs, id, "{}")).await else {
            ended = true;
            break;
        };
        assert_eq!(kind, 0x50);
    }
    assert!(ended);
    // The same one again and again is no leak.
    let mut client = platform.connect("d1").await;
    for _ in 0..2000 {
        let answer = client.ask(&publish(2, false, &attrs, 1, "{}")).await;
        assert_eq!(answer, Some((0x50, vec![0, 1])));
    }
}

async fn a_client_that_never_reads_is_not_fed(engines: TestEngines) {
    use tokio::io::AsyncWriteExt;
    let platform = Platform::start(engines).await;
    let mut honest = platform.connect("d1").await;
    let mut greedy = platform.connect("d2").await;
    // Answers to these fill every buffer on the way; then nothing more is taken.
    let pings = packet(0xc0, &[]).repeat(64 * 1024);
    let mut sent = 0;
    let flood = async {
        loop {
            greedy.0.write_all(&pings).await.unwrap();
            sent += pings.len();
        }
    };
    let stalled = tokio::time::timeout(std::time::Duration::from_secs(4), flood).await;
    assert!(stalled.is_err());
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    assert!(honest.is_alive().await);
}
