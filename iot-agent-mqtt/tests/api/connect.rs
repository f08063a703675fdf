//! Who may connect, and what happens to connections.

use std::sync::atomic::Ordering;

use common::testing::{TestEngines, eventually, fresh_tenant};
use serde_json::json;

use crate::{
    client::{Client, Hello, packet, publish_at, text},
    platform::{PASSWORD, Platform, config},
};

crate::on_both_engines!(
    only_the_right_password_opens,
    nobody_knows_while_device_manager_is_away,
    the_name_alone_is_enough_where_the_settings_say_so,
    a_client_takes_over_its_own_connection_only,
    wills_on_topics_of_others_are_refused,
    client_ids_have_rules,
    version_5_is_told_the_limits,
    no_packet_is_larger_than_the_client_takes,
    a_device_has_a_limited_number_of_connections,
    silence_ends_a_connection,
    the_end_of_the_process_is_graceful,
);

async fn only_the_right_password_opens(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let tenant = &platform.tenant;
    let good = format!("{tenant}@d1");
    for name in [good.clone(), format!("{tenant}:d1")] {
        Client::connect(platform.plain, &Hello::new("c", &name, PASSWORD)).await;
    }
    let other = fresh_tenant();
    for (user, password, code, code_5) in [
        (Some(good.as_str()), Some("wrong"), 4, 0x86),
        (Some(good.as_str()), Some(""), 4, 0x86),
        (Some(&*format!("{tenant}@unknown")), Some(PASSWORD), 4, 0x86),
        (Some(&*format!("{other}@d1")), Some(PASSWORD), 4, 0x86),
        (Some("v2k-bridge"), Some(PASSWORD), 4, 0x86),
        (Some(&*format!("{tenant}:#")), Some(PASSWORD), 4, 0x86),
        (Some(&*format!("{tenant}:d1")), None, 5, 0x87),
        (None, None, 5, 0x87),
    ] {
        let mut hello = Hello::new("c", "", "");
        (hello.user, hello.password) = (user.map(Into::into), password.map(Into::into));
        for (level, expected) in [(3, code), (4, code), (5, code_5)] {
            let hello = hello.clone().level(level);
            let refusal = Client::open(platform.plain).await.refusal(&hello).await;
            assert_eq!(refusal, expected, "{user:?} {password:?}");
        }
    }
}

async fn nobody_knows_while_device_manager_is_away(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut before = platform.connect("d1").await;
    platform.known.away.store(true, Ordering::SeqCst);
    for (level, code) in [(4, 3), (5, 0x88)] {
        let hello = platform.hello("d2").level(level);
        assert_eq!(Client::open(platform.plain).await.refusal(&hello).await, code);
    }
    before.publish(&platform.attrs("d1"), 1, "{}").await;
    platform.known.away.store(false, Ordering::SeqCst);
    platform.connect("d2").await;
}

async fn the_name_alone_is_enough_where_the_settings_say_so(engines: TestEngines) {
    let settings = iot_agent_mqtt::Config { allow_anonymous_dojot: true, ..config() };
    let platform = Platform::start_with(engines, settings).await;
    let hello = |name: String| Hello { user: Some(name), password: None, ..Hello::new("c", "", "") };
    let tenant = &platform.tenant;
    let mut client = eventually("the agent has heard of the tenant", || async {
        let mut client = Client::open(platform.plain).await;
        let answer = client.ask(&hello(format!("{tenant}:d9")).bytes()).await;
        (answer == Some((0x20, vec![0, 0]))).then_some(client)
    })
    .await;
    let stranger = hello(format!("{}:d9", fresh_tenant()));
    assert_eq!(Client::open(platform.plain).await.refusal(&stranger).await, 5);
    client.publish(&platform.attrs("d9"), 1, r#"{"a":1}"#).await;
    assert_eq!(platform.reading().await["metadata"]["deviceid"], "d9");
    // The other form is that of credentials, and a password that is given is checked.
    assert_eq!(Client::open(platform.plain).await.refusal(&hello(format!("{tenant}@d9"))).await, 5);
    let wrong = Hello::new("c", &format!("{tenant}:d1"), "wrong");
    assert_eq!(Client::open(platform.plain).await.refusal(&wrong).await, 4);
}

async fn a_client_takes_over_its_own_connection_only(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let other_tenant = fresh_tenant();
    platform.know(&other_tenant, "d1");
    let mut old = Client::connect(platform.plain, &platform.hello("d1").level(5)).await;
    // The same client id, of another device and of another tenant.
    let mut neighbour = platform.connect("d2").await;
    let hello = Hello::new("client", &format!("{other_tenant}@d1"), PASSWORD);
    let mut stranger = Client::connect(platform.plain, &hello).await;
    assert!(old.is_alive().await);
    let mut new = platform.connect("d1").await;
    assert_eq!(old.read().await, Some((0xe0, vec![0x8e, 0])));
    assert_eq!(old.read().await, None);
    for client in [&mut neighbour, &mut stranger, &mut new] {
        assert!(client.is_alive().await);
    }
}

async fn wills_on_topics_of_others_are_refused(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    for topic in [platform.attrs("d2"), platform.config_topic("d1"), "$CONTROL/x".to_owned()] {
        let mut hello = platform.hello("d1");
        hello.will = Some((topic, "{}".to_owned()));
        assert_eq!(Client::open(platform.plain).await.refusal(&hello).await, 5);
        assert_eq!(Client::open(platform.plain).await.refusal(&hello.level(5)).await, 0x87);
    }
}

async fn client_ids_have_rules(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let with = |id: &str, level: u8, clean: bool| Hello {
        id: id.to_owned(),
        clean,
        ..platform.hello("d1").level(level)
    };
    for (hello, code) in [
        (with("", 3, true), 2),
        (with("", 4, false), 2),
        (with(&"x".repeat(129), 4, true), 2),
        (with("a\0b", 4, true), 2),
        (with(&"x".repeat(129), 5, true), 0x85),
    ] {
        assert_eq!(Client::open(platform.plain).await.refusal(&hello).await, code);
    }
    for hello in [with("", 4, true), with("", 5, true), with("/#+$", 4, false), with("ü", 4, true)] {
        let mut client = Client::connect(platform.plain, &hello).await;
        client.send(&publish_at(hello.level, 1, false, &platform.attrs("d1"), 1, "{}")).await;
        platform.records(1).await;
    }
}

async fn version_5_is_told_the_limits(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut hello = platform.hello("d1").level(5);
    (hello.id, hello.keep_alive) = (String::new(), 0);
    let (kind, content) = Client::open(platform.plain).await.ask(&hello.bytes()).await.unwrap();
    assert_eq!((kind, &content[..2]), (0x20, [0, 0].as_slice()));
    let has = |part: &[u8]| content.windows(part.len()).any(|window| window == part);
    assert!(has(&[0x21, 0, 64]), "receive maximum");
    assert!(has(&[0x27, 0, 4, 0, 0]), "largest packet");
    assert!(has(&[0x13, 0x0e, 0x10]), "keep-alive of an hour");
    assert!(has(b"auto-"), "client id");
    assert!(has(&[0x25, 0]) && has(&[0x29, 0]) && has(&[0x2a, 0]), "what there is not");
}

/// MQTT 5, 3.1.2.11.4.
async fn no_packet_is_larger_than_the_client_takes(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut hello = platform.hello("d1").level(5);
    hello.keep_alive = 0;
    let (_, content) = Client::open(platform.plain).await.ask(&hello.bytes()).await.unwrap();
    let size = content.len() as u32 + 2;
    let with = |max: u32| Hello { max_packet: Some(max), ..hello.clone() };
    let mut client = Client::connect(platform.plain, &with(size)).await;
    // A client that cannot be answered does not end the connection before it.
    assert_eq!(Client::open(platform.plain).await.refusal(&with(size - 1)).await, 0x83);
    assert!(client.is_alive().await);
    let wrong = Hello { password: Some("wrong".to_owned()), ..with(5) };
    assert_eq!(Client::open(platform.plain).await.refusal(&wrong).await, 0x86);
    for max in [4, 0] {
        // Not even a refusal fits, and no limit of nothing is allowed.
        assert_eq!(Client::open(platform.plain).await.ask(&with(max).bytes()).await, None);
    }
    let few = |kind: u8, filters: u32| {
        let filter = [text("x"), if kind == 0x82 { vec![0] } else { Vec::new() }].concat();
        packet(kind, &[vec![0, 1, 0], filter.repeat(filters as usize)].concat())
    };
    for (kind, answer) in [(0x82, 0x90), (0xa2, 0xb0)] {
        let (kind_of_answer, codes) = client.ask(&few(kind, size - 5)).await.unwrap();
        assert_eq!((kind_of_answer, codes.len() as u32), (answer, size - 2));
        assert_eq!(client.ask(&few(kind, size - 4)).await, Some((0xe0, vec![0x95, 0])));
        assert_eq!(client.read().await, None);
        client = Client::connect(platform.plain, &with(size)).await;
    }
}

async fn a_device_has_a_limited_number_of_connections(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let hello = |id: usize| Hello { id: id.to_string(), ..platform.hello("d1") };
    let mut clients = Vec::new();
    for id in 0..4 {
        clients.push(Client::connect(platform.plain, &hello(id)).await);
    }
    assert_eq!(Client::open(platform.plain).await.refusal(&hello(4)).await, 3);
    platform.connect("d2").await;
    clients.pop().unwrap().crash();
    eventually("there is room again", || async {
        let answer = Client::open(platform.plain).await.ask(&hello(4).bytes()).await;
        (answer == Some((0x20, vec![0, 0]))).then_some(())
    })
    .await;
}

async fn silence_ends_a_connection(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut hello = platform.hello("d1").level(5);
    hello.keep_alive = 1;
    let started = std::time::Instant::now();
    let mut client = Client::connect(platform.plain, &hello).await;
    assert_eq!(client.read().await, Some((0xe0, vec![0x8d, 0])));
    assert!(started.elapsed().as_millis() >= 1400);
    // Half a CONNECT keeps its place no longer than the settings say.
    let mut half = Client::open(platform.plain).await;
    half.send(&hello.bytes()[..9]).await;
    assert_eq!(half.read().await, None);
    let mut nothing = Client::open(platform.plain).await;
    assert_eq!(nothing.read().await, None);
}

async fn the_end_of_the_process_is_graceful(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    let mut client = Client::connect(platform.plain, &platform.hello("d1").level(5)).await;
    let mut silent = platform.connect("d2").await;
    let mut bytes = Vec::new();
    for id in 1..=50 {
        bytes.extend(publish_at(5, 1, false, &platform.attrs("d1"), id, &json!({ "n": id }).to_string()));
    }
    bytes.extend(packet(0xc0, &[]));
    client.send(&bytes).await;
    // Everything was taken in before the end is asked for.
    let mut acknowledged = 0;
    loop {
        match client.read().await.unwrap().0 {
            0x40 => acknowledged += 1,
            0xd0 => break,
            kind => panic!("{kind:x}"),
        }
    }
    platform.engines.engines.shutdown.request();
    loop {
        match client.read().await {
            Some((0x40, _)) => acknowledged += 1,
            Some((0xe0, reason)) => assert_eq!(reason, [0x8b, 0]),
            None => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acknowledged, 50);
    assert_eq!(silent.read().await, None);
}
