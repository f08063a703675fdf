//! From the platform to devices: actuations, and the end of their rights.

use common::{testing::TestEngines, wire::Subject};
use serde_json::{Value, json};

use crate::{
    client::{Client, packet, subscribe, text},
    platform::Platform,
};

crate::on_both_engines!(
    an_actuation_reaches_its_device,
    each_filter_has_its_own_verdict,
    only_actuations_are_delivered,
    what_a_device_cannot_take_is_dropped,
    a_removed_device_is_disconnected,
    a_replaced_password_ends_its_sessions,
    a_removed_tenant_is_disconnected,
    a_slow_device_does_not_hold_up_others,
);

fn delivered(level: u8, topic: &str, id: Option<u16>, payload: &str) -> Vec<u8> {
    let mut content = text(topic);
    content.extend(id.into_iter().flat_map(u16::to_be_bytes));
    if level == 5 {
        content.push(0);
    }
    content.extend_from_slice(payload.as_bytes());
    content
}

async fn an_actuation_reaches_its_device(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let tenant = &platform.tenant;
    let slash = format!("/{tenant}/d1/config");
    let mut colon = platform.connect("d1").await;
    let mut hello = platform.hello("d1").level(5);
    hello.id = String::from("second");
    let mut five = Client::connect(platform.plain, &hello).await;
    let mut other = platform.connect("d2").await;
    let answer = colon.ask(&subscribe(1, &[(&platform.config_topic("d1"), 2)])).await;
    assert_eq!(answer, Some((0x90, vec![0, 1, 1])));
    let mut request = subscribe(1, &[(&slash, 0)]);
    request.insert(4, 0);
    request[1] += 1;
    assert_eq!(five.ask(&request).await, Some((0x90, vec![0, 1, 0, 0])));
    other.ask(&subscribe(1, &[(&platform.config_topic("d2"), 1)])).await;

    platform.configure("d1", &json!({ "led": "on" })).await;
    let expected = delivered(4, &platform.config_topic("d1"), Some(1), r#"{"led":"on"}"#);
    assert_eq!(colon.read().await, Some((0x32, expected)));
    assert_eq!(five.read().await, Some((0x30, delivered(5, &slash, None, r#"{"led":"on"}"#))));
    colon.send(&packet(0x40, &[0, 1])).await;

    platform.configure("d2", &json!({ "led": "off" })).await;
    let (_, content) = other.read().await.unwrap();
    assert!(content.ends_with(br#"{"led":"off"}"#));
    for client in [&mut colon, &mut five] {
        assert!(client.is_alive().await);
    }
}

async fn each_filter_has_its_own_verdict(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let other = common::testing::fresh_tenant();
    let mut client = platform.connect("d1").await;
    let own = platform.config_topic("d1");
    let filters = [
        (own.clone(), Some(1)),
        (format!("{own}/#"), Some(1)),
        ("#".to_owned(), None),
        ("+/config".to_owned(), None),
        (platform.config_topic("d2"), None),
        (format!("{other}:d1/config"), None),
        (format!("/{}/+/config", platform.tenant), None),
        (format!("$share/g/{own}"), None),
        ("$SYS/#".to_owned(), None),
        (format!("/{}/d1/config", platform.tenant), Some(1)),
    ];
    let asked: Vec<(&str, u8)> = filters.iter().map(|(filter, _)| (filter.as_str(), 1)).collect();
    let mut expected = vec![0, 5];
    expected.extend(filters.iter().map(|(_, verdict)| verdict.unwrap_or(0x80)));
    assert_eq!(client.ask(&subscribe(5, &asked)).await, Some((0x90, expected)));

    // Two filters match the one name: it is told once there, and once under the other name.
    platform.configure("d1", &json!({ "n": 1 })).await;
    platform.configure("d2", &json!({ "n": 2 })).await;
    for _ in 0..2 {
        assert!(client.read().await.unwrap().1.ends_with(br#"{"n":1}"#));
    }
    let mut unsubscribe = vec![0, 6];
    for (filter, _) in &filters {
        unsubscribe.extend(text(filter));
    }
    assert_eq!(client.ask(&packet(0xa2, &unsubscribe)).await, Some((0xb0, vec![0, 6])));
    platform.configure("d1", &json!({ "n": 3 })).await;
    assert!(client.is_alive().await);
}

async fn only_actuations_are_delivered(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    client.ask(&subscribe(1, &[(&platform.config_topic("d1"), 0)])).await;
    let event =
        |event: &str, data: Value| json!({ "event": event, "data": data, "meta": { "service": "x" } });
    for (kind, data) in [
        ("create", json!({ "id": "d1", "attrs": { "1": [] } })),
        ("update", json!({ "id": "d1", "attrs": { "1": [] } })),
        ("template.update", json!({ "affected": ["d1"], "template": {} })),
        ("remove", json!({ "id": "d2" })),
        ("configure", json!({ "id": "d1" })),
        ("configure", json!({ "id": "not a device", "attrs": {} })),
        ("configure", json!({ "attrs": {} })),
        ("configure", json!(7)),
    ] {
        platform.announce(&Subject::DEVICE, &event(kind, data)).await;
    }
    platform.announce(&Subject::DEVICE, &json!("rubbish")).await;
    platform.configure("d1", &json!({ "n": 1 })).await;
    assert!(client.read().await.unwrap().1.ends_with(br#"{"n":1}"#));
}

async fn what_a_device_cannot_take_is_dropped(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut hello = platform.hello("d1").level(5);
    let own = platform.config_topic("d1");
    let fitting = delivered(5, &own, Some(1), &json!({ "text": "x".repeat(200) }).to_string());
    // One byte for its kind, two for its length.
    hello.max_packet = Some(fitting.len() as u32 + 3);
    let mut client = Client::connect(platform.plain, &hello).await;
    let mut request = vec![0, 1, 0];
    request.extend(text(&own));
    request.push(1);
    assert_eq!(client.ask(&packet(0x82, &request)).await, Some((0x90, vec![0, 1, 0, 1])));
    // More of them than may wait for an acknowledgement: a dropped one takes nobody's place.
    for _ in 0..20 {
        platform.configure("d1", &json!({ "text": "x".repeat(201) })).await;
    }
    platform.configure("d1", &json!({ "text": "x".repeat(200) })).await;
    let (kind, content) = client.read().await.unwrap();
    // Its packet id does not matter.
    let (before, after) = (own.len() + 2, own.len() + 4);
    assert_eq!((kind, &content[..before]), (0x32, &fitting[..before]));
    assert_eq!(content[after..], fitting[after..]);
    assert!(client.is_alive().await);
}

async fn a_removed_device_is_disconnected(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut gone = Client::connect(platform.plain, &platform.hello("d1").level(5)).await;
    let mut other = platform.connect("d2").await;
    let event = json!({ "event": "remove", "data": { "id": "d1" }, "meta": { "service": "x" } });
    platform.announce(&Subject::DEVICE, &event).await;
    assert_eq!(gone.read().await, Some((0xe0, vec![0x87, 0])));
    assert_eq!(gone.read().await, None);
    assert!(other.is_alive().await);
}

async fn a_replaced_password_ends_its_sessions(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut old = platform.connect("d1").await;
    let mut other = platform.connect("d2").await;
    let event = |opr: &str, device: &str, ts: i64| {
        json!({
            "metadata": { "msgid": "x", "ts": ts, "service": "basic-auth" },
            "data": { "opr": opr, "tenant": platform.tenant, "device": device }
        })
    };
    // The platform's fake issues all passwords at 0: the event of this very password ends nothing.
    platform.announce(&Subject::BASIC_CREDENTIALS, &event("create", "d1", 0)).await;
    platform.announce(&Subject::BASIC_CREDENTIALS, &event("create", "d3", 1)).await;
    assert!(old.is_alive().await);
    platform.announce(&Subject::BASIC_CREDENTIALS, &event("create", "d1", 1)).await;
    assert_eq!(old.read().await, None);
    assert!(other.is_alive().await);
    platform.known.passwords.lock().unwrap().remove(&format!("{}@d2", platform.tenant));
    platform.announce(&Subject::BASIC_CREDENTIALS, &event("delete", "d2", 2)).await;
    assert_eq!(other.read().await, None);
    assert_eq!(Client::open(platform.plain).await.refusal(&platform.hello("d2")).await, 4);
}

async fn a_removed_tenant_is_disconnected(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = platform.connect("d1").await;
    platform.neighbours.remove_tenant(&platform.tenant, &["iot-agent-mqtt"]).await;
    assert_eq!(client.read().await, None);
    let (mut again, hello) = (Client::open(platform.plain).await, platform.hello("d1"));
    platform.known.passwords.lock().unwrap().clear();
    assert_eq!(again.refusal(&hello).await, 4);
}

async fn a_slow_device_does_not_hold_up_others(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut slow = platform.connect("d1").await;
    let mut quick = platform.connect("d2").await;
    slow.ask(&subscribe(1, &[(&platform.config_topic("d1"), 1)])).await;
    quick.ask(&subscribe(1, &[(&platform.config_topic("d2"), 1)])).await;
    for n in 0..100 {
        platform.configure("d1", &json!({ "n": n })).await;
    }
    platform.configure("d2", &json!({ "n": 0 })).await;
    assert!(quick.read().await.unwrap().1.ends_with(br#"{"n":0}"#));
    // Sixteen wait for their acknowledgement; of those that wait in the queue the oldest had to go.
    let mut numbers = Vec::new();
    loop {
        let (_, content) = slow.read().await.unwrap();
        let payload: Value =
            serde_json::from_slice(&content[platform.config_topic("d1").len() + 4..]).unwrap();
        numbers.push(payload["n"].as_u64().unwrap());
        let id = &content[platform.config_topic("d1").len() + 2..][..2];
        if numbers.len() == 16 {
            // Every one of the queue has arrived by now.
            quick.ask(&packet(0xc0, &[])).await;
        }
        if numbers.len() >= 16 {
            for id in 1..=u16::from_be_bytes([id[0], id[1]]) {
                slow.send(&packet(0x40, &id.to_be_bytes())).await;
            }
        }
        if numbers.last() == Some(&99) {
            break;
        }
    }
    assert!(numbers[..16].iter().copied().eq(0..16), "{numbers:?}");
    assert_eq!(numbers.len(), 16 + 64, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
}
