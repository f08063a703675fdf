//! socket.io as Engine.IO 3 by polling, the way dojot's dashboard does it. The system tests use the real clients.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::Router;
use common::{
    http::{Caller, client::Service as Name},
    tenancy::Topics,
    testing::{self, Neighbours, TestEngines, eventually, user_of},
    wire::{Subject, Tenant, event::Revocation},
};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use tokio_tungstenite::connect_async;

use super::{Config, Service, config};

/// A polling client.
pub(super) struct Socket {
    pub(super) base: String,
    pub(super) sid: String,
}

impl Socket {
    pub(super) async fn open(service: &Service, query: &str) -> (Self, String) {
        let base = format!("{}/socket.io/?EIO=3&transport=polling{query}", service.base);
        let handshake = testing::client().get(&base).send().await.unwrap().text().await.unwrap();
        let open = &handshake[handshake.find('{').unwrap()..=handshake.rfind('}').unwrap()];
        let open: Value =
            serde_json::from_str(open.split("}2:40").next().unwrap().trim_end_matches(|c| c != '}')).unwrap();
        assert_eq!(open["pingInterval"], 25_000);
        assert_eq!(open["pingTimeout"], 5_000);
        let socket = Self { base, sid: open["sid"].as_str().unwrap().to_owned() };
        let first = socket.poll().await;
        (socket, first)
    }

    pub(super) async fn poll(&self) -> String {
        let answer = testing::client().get(format!("{}&sid={}", self.base, self.sid)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    pub(super) async fn poll_until(&self, wanted: &str) -> String {
        let mut all = String::new();
        let polling = async {
            while !all.contains(wanted) {
                all.push_str(&self.poll().await);
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), polling).await.is_ok(),
            "{wanted} is not in {all}"
        );
        all
    }

    async fn send(&self, packet: &str) {
        let body = format!("{}:{packet}", packet.chars().count());
        let request = testing::client().post(format!("{}&sid={}", self.base, self.sid)).body(body);
        assert!(request.send().await.unwrap().status().is_success());
    }
}

pub(super) async fn token(service: &Service, caller: &Caller) -> String {
    let answer =
        service.engines.request(Method::GET, &service.base, "/socketio", caller).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

pub(super) fn reading(tenant: &Tenant, device: &str, value: u32) -> String {
    format!(
        r#"{{"metadata":{{"deviceid":"{device}","tenant":"{tenant}","timestamp":1}},"attrs":{{"x":{value}}}}}"#
    )
}

#[tokio::test]
async fn a_socket_receives_what_is_appended_after_its_connection() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let (tenant, other) = (service.tenant(), service.tenant());
        let (socket, first) =
            Socket::open(&service, &format!("&token={}", token(&service, &user_of(&tenant)).await)).await;
        assert!(first.contains(":40"), "{first}");
        let (stranger, _) =
            Socket::open(&service, &format!("&token={}", token(&service, &user_of(&other)).await)).await;

        service.append(&tenant, &Subject::DEVICE_DATA, "not a reading").await;
        service.append(&tenant, &Subject::DEVICE_DATA, &reading(&tenant, "a1", 7)).await;
        let seen = socket.poll_until("all").await;
        assert!(seen.contains(&format!(r#"42["a1",{}]"#, reading(&tenant, "a1", 7))), "{seen}");

        let actuation = format!(
            r#"{{"event":"configure","data":{{"id":"a1","attrs":{{"fan":1}}}},"meta":{{"service":"{other}","timestamp":5}}}}"#
        );
        service.append(&tenant, &Subject::DEVICE, &actuation).await;
        let seen = socket.poll_until(r#"{"fan":1}"#).await;
        let of_topic = format!(r#""tenant":"{tenant}","timestamp":5"#);
        assert!(seen.contains(&of_topic), "the tenant is that of the topic: {seen}");

        service.append(&other, &Subject::DEVICE_DATA, &reading(&other, "b2", 8)).await;
        let seen = stranger.poll_until("b2").await;
        assert!(!seen.contains(r#""a1""#), "the other tenant's socket saw {seen}");
    }
}

/// With one thread, sockets write exactly when the service lets them.
#[tokio::test]
async fn what_was_made_for_another_tenant_of_the_name_is_not_shown() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let tenant = service.tenant();
        let user = Caller { generation: 2, ..user_of(&tenant) };
        let (socket, _) = Socket::open(&service, &format!("&token={}", token(&service, &user).await)).await;
        for (generation, device) in [(1, "former"), (2, "own"), (3, "next"), (0, "unmarked")] {
            let value = reading(&tenant, device, 1);
            service.append_for(generation, &tenant, &Subject::DEVICE_DATA, &value).await;
        }
        let seen = socket.poll_until("unmarked").await;
        let has = |device: &str| seen.contains(device);
        assert!(has("own") && !has("former") && !has("next"), "{seen}");
    }
}

#[tokio::test]
async fn a_burst_does_not_overrun_a_quick_reader() {
    const RECORDS: u32 = 400;
    let engines = Arc::new(TestEngines::embedded().await);
    let neighbours = Neighbours::start(&engines.engines, &[Name::Auth], Router::new()).await;
    // Much less than the two packets of each record.
    let config = Config { socket_queue: 200, ..config() };
    let service = Service::start_with(config, engines, neighbours).await;
    let tenant = service.tenant();
    let query = format!("EIO=3&transport=websocket&token={}", token(&service, &user_of(&tenant)).await);
    let url = format!("{}/socket.io/?{query}", service.base.replace("http://", "ws://"));
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut next = async || socket.next().await.unwrap().unwrap().into_text().unwrap();
    while next().await != "40" {}
    // All of them are there before anything is read.
    let values: Vec<String> = (0..RECORDS).map(|n| reading(&tenant, "a1", n)).collect();
    let appends = values.iter().map(|value| service.append(&tenant, &Subject::DEVICE_DATA, value));
    futures_util::future::join_all(appends).await;
    // In any order, as they were appended beside each other.
    let packet = |name| move |value: &String| format!(r#"42["{name}",{value}]"#);
    let mut missing: HashSet<String> =
        values.iter().map(packet("a1")).chain(values.iter().map(packet("all"))).collect();
    let reading = async {
        while !missing.is_empty() {
            assert!(missing.remove(next().await.as_str()));
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(read.is_ok(), "{} packets did not come", missing.len());
}

/// What a client is told when it connects, until it is let in or refused.
pub(super) async fn outcome(service: &Service, query: &str) -> String {
    let url = format!("{}/socket.io/?EIO=3&transport=polling{query}", service.base);
    let answer = testing::client().get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=UTF-8");
    let first = answer.text().await.unwrap();
    // Whoever is refused is told in the first answer, which ends the session too.
    if first.contains(":44") {
        assert!(first.ends_with("1:1"), "{first}");
        return first;
    }
    let (_, sid) = first.split_once("\"sid\":\"").unwrap();
    let sid = sid.split('"').next().unwrap().to_owned();
    Socket { base: url, sid }.poll_until(":4").await
}

#[tokio::test]
async fn a_token_opens_one_socket() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let token = token(&service, &user_of(&service.tenant())).await;
        let (_, first) = Socket::open(&service, &format!("&token={token}")).await;
        assert!(first.contains(":40"), "{first}");
        for query in [format!("&token={token}"), "&token=unknown".to_owned()] {
            let seen = outcome(&service, &query).await;
            assert!(seen.contains("Authentication error: unknown token"), "{seen}");
        }
        let seen = outcome(&service, "").await;
        assert!(seen.contains("Authentication error: missing token"), "{seen}");
    }
}

#[tokio::test]
async fn notifications_pass_the_filter_of_their_socket() {
    let service = Service::start(TestEngines::embedded().await).await;
    let tenant = service.tenant();
    let token = token(&service, &user_of(&tenant)).await;
    let (socket, _) = Socket::open(&service, &format!("&token={token}&subject=dojot.notifications")).await;
    let filter = r#"{"fields":{"level":{"operation":">","value":2}}}"#;
    socket.send(&format!("42{}", serde_json::json!(["filter", filter]))).await;
    socket.send(&format!("42{}", serde_json::json!(["filter", "not a filter"]))).await;
    for level in [1, 3] {
        let notification = format!(r#"{{"message":"level {level}","metaAttrsFilter":{{"level":{level}}}}}"#);
        service.append(&tenant, &Subject::NOTIFICATIONS, &notification).await;
    }
    let seen = socket.poll_until("level 3").await;
    assert!(seen.contains(r#"42["notification","{"#) && !seen.contains("level 1"), "{seen}");
}

#[tokio::test]
async fn a_socket_ends_with_the_token_of_its_user() {
    let service = Service::start(TestEngines::embedded().await).await;
    let mut caller = user_of(&service.tenant());
    caller.expires_s = service.engines.engines.clock.now_s() + 1;
    let (socket, _) = Socket::open(&service, &format!("&token={}", token(&service, &caller).await)).await;
    socket.poll_until(":41").await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_when_that_of_its_user_has_expired() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let mut caller = user_of(&service.tenant());
        let clock = service.engines.engines.clock.clone();
        caller.expires_s = clock.now_s() + 5;
        let kept = token(&service, &caller).await;
        eventually("the time goes on", async || (clock.now_s() >= caller.expires_s).then_some(())).await;
        let seen = outcome(&service, &format!("&token={kept}")).await;
        assert!(seen.contains("Authentication error: unknown token"), "{seen}");
    }
}

/// A user whose identifier no other test uses: the real log of revocations is one for all.
fn fresh_user(tenant: &Tenant) -> Caller {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    Caller { user_id: (high >> 2) as i64, ..user_of(tenant) }
}

/// Announces that the tokens of a user died. When it returns, what is issued is newer.
async fn revoke(service: &Service, user: &Caller) {
    let revocation = Revocation { user_id: Some(user.user_id), timestamp: 0, keeps_tokens: false };
    let value = serde_json::to_string(&revocation).unwrap();
    let topics = Topics::new(service.engines.engines.client.clone(), "test");
    topics.resolve(&Tenant::management(), &Subject::REVOCATION).await.unwrap();
    service.append(&Tenant::management(), &Subject::REVOCATION, &value).await;
    let clock = &service.engines.engines.clock;
    let announced = clock.now_ms();
    eventually("the time goes on", async || (clock.now_ms() > announced).then_some(())).await;
}

#[tokio::test]
async fn a_revoked_user_loses_sockets_and_tokens() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let tenant = service.tenant();
        let (joe, ann) = (fresh_user(&tenant), fresh_user(&tenant));
        let open = async |user: &Caller| {
            let query = format!("&token={}", token(&service, user).await);
            let (socket, first) = Socket::open(&service, &query).await;
            assert!(first.contains(":40"), "{first}");
            socket
        };
        let (of_joe, of_ann) = (open(&joe).await, open(&ann).await);
        let kept = token(&service, &joe).await;
        revoke(&service, &joe).await;
        of_joe.poll_until(":41").await;
        let seen = outcome(&service, &format!("&token={kept}")).await;
        assert!(seen.contains("Authentication error: unknown token"), "{seen}");
        service.append(&tenant, &Subject::DEVICE_DATA, &reading(&tenant, "a1", 7)).await;
        let seen = of_ann.poll_until("a1").await;
        assert!(!seen.contains(":41"), "others are not concerned: {seen}");
        // With a new token everything goes on.
        let of_joe = open(&joe).await;
        service.append(&tenant, &Subject::DEVICE_DATA, &reading(&tenant, "a2", 8)).await;
        of_joe.poll_until("a2").await;
    }
}

#[tokio::test]
async fn a_process_that_starts_knows_what_was_revoked_before() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let joe = fresh_user(&service.tenant());
        let before = token(&service, &joe).await;
        revoke(&service, &joe).await;
        let after = token(&service, &joe).await;
        let started = service.another().await;
        let seen = outcome(&started, &format!("&token={before}")).await;
        assert!(seen.contains("Authentication error: unknown token"), "{seen}");
        let seen = outcome(&started, &format!("&token={after}")).await;
        assert!(seen.contains(":40"), "{seen}");
    }
}

#[tokio::test]
async fn the_sockets_of_a_removed_tenant_end() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let (doomed, kept) = (service.tenant(), service.tenant());
        let open = async |tenant: &Tenant| {
            let query = format!("&token={}", token(&service, &user_of(tenant)).await);
            Socket::open(&service, &query).await.0
        };
        let (of_doomed, of_kept) = (open(&doomed).await, open(&kept).await);
        let (late_of_doomed, late_of_kept) =
            (Session::begin(&service, &doomed).await, Session::begin(&service, &kept).await);
        service.neighbours.announce("CREATE", &doomed).await;
        service.neighbours.remove_tenant(&doomed, &["data-broker"]).await;
        of_doomed.poll_until(":41").await;
        late_of_doomed.connect_until("\x1e41").await;
        late_of_kept.connect_until("40{").await;
        service.append(&kept, &Subject::DEVICE_DATA, &reading(&kept, "a1", 7)).await;
        let seen = of_kept.poll_until("a1").await;
        assert!(!seen.contains(":41"), "others are not concerned: {seen}");
    }
}

/// A client of 4.x that has a session, and no socket before it asks for one.
struct Session(String);

impl Session {
    async fn begin(service: &Service, tenant: &Tenant) -> Self {
        let token = token(service, &user_of(tenant)).await;
        let base = format!("{}/socket.io/?EIO=4&transport=polling", service.base);
        let open = testing::client().get(format!("{base}&token={token}")).send().await.unwrap();
        let open: Value = serde_json::from_str(&open.text().await.unwrap()[1..]).unwrap();
        Self(format!("{base}&sid={}", open["sid"].as_str().unwrap()))
    }

    async fn connect_until(&self, wanted: &str) {
        let answer = testing::client().post(&self.0).body("40").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ok");
        let answers = async || testing::client().get(&self.0).send().await.unwrap().text().await.unwrap();
        let mut seen = answers().await;
        while !seen.contains(wanted) {
            seen.push('\x1e');
            seen.push_str(&tokio::time::timeout(Duration::from_secs(20), answers()).await.unwrap());
        }
    }
}
