//! What a socket sees, and how it ends.

use common::testing::{fresh_tenant, user_of};
use common::{http::Caller, http::client::Service, wire::Topic};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::support::{Stack, close, config, text};

const FORBIDDEN: &str = "Tenant can't access this topic";

#[tokio::test(flavor = "multi_thread")]
async fn every_record_after_the_handshake_is_a_frame() {
    for stack in Stack::both().await {
        // The topic comes into being with its first subscription.
        let mut socket = stack.subscribe("device-data").await;
        let reading = |n: usize| format!(r#"{{"metadata":{{"deviceid":"a"}},"attrs":{{"n":{n}}}}}"#);
        for n in 0..50 {
            stack.append("device-data", reading(n)).await;
            assert_eq!(text(&mut socket).await, reading(n));
        }
        let mut late = stack.subscribe("device-data").await;
        stack.append("device-data", r#"{"late":true}"#).await;
        assert_eq!(text(&mut socket).await, r#"{"late":true}"#);
        assert_eq!(text(&mut late).await, r#"{"late":true}"#, "there is no replay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_for_another_tenant_of_the_name_is_not_shown() {
    for stack in Stack::both().await {
        let user = Caller { generation: 2, ..stack.fresh_user() };
        let mut socket = stack.connect(&stack.path_of(&user).await).await.unwrap();
        let topic = Topic::parse(&format!("{}.device-data", stack.tenant)).unwrap();
        for (generation, value) in
            [(1, r#"{"n":1}"#), (2, r#"{"n":2}"#), (3, r#"{"n":3}"#), (0, r#"{"n":4}"#)]
        {
            stack.append_for(generation, &topic, value).await;
        }
        assert_eq!(text(&mut socket).await, r#"{"n":2}"#);
        assert_eq!(text(&mut socket).await, r#"{"n":4}"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_object_array_or_null_is_not_shown() {
    for stack in Stack::both().await {
        stack.create("some.subject").await;
        let mut socket = stack.subscribe("some.subject").await;
        for value in ["{}", "[]", "3", "true", "\"text\"", "not JSON", "", "[1]", "null", r#"{"end":{}}"#] {
            stack.append("some.subject", value).await;
            if matches!(value, "[1]" | "null") || value.contains("end") {
                assert_eq!(text(&mut socket).await, value);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_one_topic_share_and_others_do_not_see_it() {
    for stack in Stack::both().await {
        stack.create("one").await;
        stack.create("other").await;
        let mut first = stack.subscribe("one").await;
        let mut second = stack.subscribe("one").await;
        let mut other = stack.subscribe("other").await;
        stack.append("one", r#"{"for":"one"}"#).await;
        stack.append("other", r#"{"for":"other"}"#).await;
        assert_eq!(text(&mut first).await, r#"{"for":"one"}"#);
        assert_eq!(text(&mut second).await, r#"{"for":"one"}"#);
        assert_eq!(text(&mut other).await, r#"{"for":"other"}"#);
        // The topic stays for whoever is left, and comes back after the last one.
        drop(first);
        stack.append("one", r#"{"n":2}"#).await;
        assert_eq!(text(&mut second).await, r#"{"n":2}"#);
        second.close(None).await.unwrap();
        while let Some(Ok(_)) = second.next().await {}
        stack.append("one", r#"{"n":3}"#).await;
        let mut third = stack.subscribe("one").await;
        stack.append("one", r#"{"n":4}"#).await;
        assert_eq!(text(&mut third).await, r#"{"n":4}"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_others_are_forbidden() {
    for stack in Stack::both().await {
        let other = fresh_tenant();
        let tenant = &stack.tenant;
        for topic in [
            format!("{other}.device-data"),
            format!("{}.device-data", tenant.as_str().to_uppercase()),
            format!("{tenant}x.device-data"),
            format!("{tenant}"),
            format!("{tenant}."),
            format!(".{tenant}.device-data"),
            format!("{tenant}.%23"),
            format!("{tenant}.a%2Fb"),
            format!("{tenant}.a%00b"),
            "dojot-management.dojot.tenancy".to_owned(),
            "dojot-management.tatami.revocation".to_owned(),
        ] {
            let path = format!("/kafka-ws/v1/topics/{topic}?ticket={}", stack.ticket().await);
            let mut socket = stack.connect(&path).await.unwrap();
            assert_eq!(close(&mut socket).await, (4403, FORBIDDEN.to_owned()), "{topic}");
        }
        // The ticket decides, whatever the topic's owner may do.
        let ticket = stack.ticket_of(&user_of(&other)).await;
        let path = format!("/kafka-ws/v1/topics/{other}.device-data?ticket={ticket}");
        let mut socket = stack.connect(&path).await.unwrap();
        let topic = Topic::parse(&format!("{other}.device-data")).unwrap();
        stack.append_to(&topic, "[1]").await;
        assert_eq!(text(&mut socket).await, "[1]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_creates_no_topic_but_a_common_one() {
    for stack in Stack::both().await {
        for n in 0..5 {
            for subject in [format!("made-up{n}"), "dojot.tenancy".to_owned(), "tatami.revocation".to_owned()]
            {
                let mut socket = stack.subscribe(&subject).await;
                assert_eq!(close(&mut socket).await, (4403, FORBIDDEN.to_owned()), "{subject}");
            }
        }
        assert_eq!(stack.topics().await, [""; 0]);
        let _common = stack.subscribe("dojot.device-manager.device").await;
        assert_eq!(stack.topics().await, ["dojot.device-manager.device"]);
        // What a service has created can be read.
        stack.create("made-up0").await;
        let mut socket = stack.subscribe("made-up0").await;
        stack.append("made-up0", "[1]").await;
        assert_eq!(text(&mut socket).await, "[1]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_the_token_or_its_longest_life() {
    for stack in Stack::both_with(&kafka_ws::Config { max_lifetime_s: 1, ..config() }).await {
        let mut socket = stack.subscribe("device-data").await;
        assert_eq!(close(&mut socket).await, (4408, "Connection lifetime".to_owned()));
    }
    for stack in Stack::both().await {
        for seconds in [1, 0, -5] {
            let expires_s = stack.test.engines.clock.now_s() + seconds;
            let caller = Caller { expires_s, ..user_of(&stack.tenant) };
            let ticket = stack.ticket_of(&caller).await;
            let path = format!("/kafka-ws/v1/topics/{}.device-data?ticket={ticket}", stack.tenant);
            let mut socket = stack.connect(&path).await.unwrap();
            assert_eq!(close(&mut socket).await, (4408, "Connection lifetime".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_data_broker_the_socket_says_so() {
    for stack in Stack::both().await {
        let mut known = stack.subscribe("device-data").await;
        stack.test.engines.client.urls().set(Service::DataBroker, "http://127.0.0.1:9");
        let mut socket = stack.subscribe("dojot.notifications").await;
        assert_eq!(close(&mut socket).await, (4503, "Server unavailable at this moment".to_owned()));
        stack.append("device-data", "[1]").await;
        assert_eq!(text(&mut known).await, "[1]", "what is open goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sockets_close_when_the_service_stops() {
    for stack in Stack::both().await {
        let mut sockets = Vec::new();
        for _ in 0..5 {
            sockets.push(stack.subscribe("device-data").await);
        }
        stack.test.engines.shutdown.request();
        for mut socket in sockets {
            assert_eq!(close(&mut socket).await, (1001, "Server is shutting down".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_is_ignored() {
    for stack in Stack::both().await {
        let mut socket = stack.subscribe("device-data").await;
        for message in [Message::text("{}"), Message::binary(vec![0; 4096]), Message::text("")] {
            socket.send(message).await.unwrap();
        }
        socket.send(Message::Ping("hello".into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("hello".into()));
        stack.append("device-data", "[1]").await;
        assert_eq!(text(&mut socket).await, "[1]");
        socket.send(Message::binary(vec![0; 4097])).await.unwrap();
        assert_eq!(close(&mut socket).await.0, 1008, "large frames are not read");
        let mut socket = stack.subscribe("device-data").await;
        let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
        socket.close(Some(frame.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(frame)), "a close is answered");
    }
}
