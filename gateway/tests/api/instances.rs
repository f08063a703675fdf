//! Several instances of a service.

use std::collections::HashSet;

use axum::{
    Router,
    extract::{Query, WebSocketUpgrade, ws::Message},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
};
use common::{http::client::Service, testing::eventually};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::connect_async;

use crate::support::{Stack, config, dead_url};

const TOKEN: &str = "Authorization: Bearer good\r\n";

/// Nobody looks whether instances are well, so that requests find out.
fn unwatched() -> gateway::Config {
    gateway::Config { health_check_interval_ms: 86_400_000, ..config() }
}

/// Answers with its name and what it was sent.
fn named(name: &'static str) -> Router {
    Router::new().fallback(async move |body: String| format!("{name}:{body}"))
}

/// Waits until the gateway uses the instances that were set.
async fn used(stack: &Stack, path: &str, name: &str) {
    eventually("the instance is used", async || {
        let (_, body) = stack.plain("GET", path, TOKEN).await;
        body.contains(name).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_take_turns() {
    for stack in Stack::both().await {
        let (a, b) = (
            stack.instance("127.0.0.1:0", named("first")).await,
            stack.instance("127.0.0.1:0", named("second")).await,
        );
        let urls = stack.test.engines.client.urls();
        urls.set(Service::History, format!("{},{}", a.url(), b.url()));
        used(&stack, "/history/x", "first").await;
        let before = (a.hits(), b.hits());
        for _ in 0..20 {
            assert_eq!(stack.get("/history/x").await, 200);
        }
        assert_eq!((a.hits() - before.0, b.hits() - before.1), (10, 10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_cannot_have_goes_to_another() {
    for stack in Stack::both_with(&unwatched()).await {
        let alive = stack.instance("127.0.0.1:0", named("alive")).await;
        let urls = stack.test.engines.client.urls();
        urls.set(Service::History, format!("{},{}", dead_url().await, alive.url()));
        used(&stack, "/history/x", "alive").await;
        for method in ["GET", "PUT", "POST", "DELETE"] {
            for _ in 0..4 {
                let headers = format!("{TOKEN}Content-Length: 5\r\n");
                let request = format!("{method} /history/x HTTP/1.1\r\nHost: t\r\n{headers}\r\nhello");
                let mut connection = crate::support::Connection::to(&stack).await;
                connection.write(&request).await;
                let (head, body) = connection.answer().await;
                assert!(head.starts_with("http/1.1 200"), "{method}: {head}");
                assert_eq!(body, "alive:hello", "the body is whole");
            }
        }
        urls.set(Service::History, format!("{},{}", dead_url().await, dead_url().await));
        eventually("all are away", async || (stack.get("/history/x").await == 502).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changes_nothing_is_sent_twice() {
    for stack in Stack::both_with(&unwatched()).await {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broken = format!("http://{}", listener.local_addr().unwrap());
        let stop = stack.test.engines.shutdown.clone();
        stack.test.engines.shutdown.spawn("broken", async move {
            while let Some(Ok((mut stream, _))) = stop.unless_requested(listener.accept()).await {
                // Reads the request and hangs up.
                let _ = stream.read(&mut [0; 4096]).await;
            }
        });
        let alive = stack.instance("127.0.0.1:0", named("alive")).await;
        stack.test.engines.client.urls().set(Service::History, format!("{broken},{}", alive.url()));
        used(&stack, "/history/x", "alive").await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses
                .push(stack.plain("POST", "/history/x", &format!("{TOKEN}Content-Length: 0\r\n")).await.0);
        }
        assert!(statuses.contains(&502), "nobody knows whether it was carried out: {statuses:?}");
        for _ in 0..10 {
            assert_eq!(stack.get("/history/x").await, 200);
        }
        let before = alive.hits();
        for _ in 0..5 {
            assert_eq!(
                stack.plain("POST", "/history/x", &format!("{TOKEN}Content-Length: 0\r\n")).await.0,
                200
            );
        }
        assert_eq!(alive.hits() - before, 5, "who fails in a row is left alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_back_is_used_again() {
    let config = gateway::Config { health_check_interval_ms: 100, ..config() };
    for stack in Stack::both_with(&config).await {
        let a = stack.instance("127.0.0.1:0", named("first")).await;
        let b = stack.instance("127.0.0.1:0", named("second")).await;
        stack.test.engines.client.urls().set(Service::History, format!("{},{}", a.url(), b.url()));
        used(&stack, "/history/x", "first").await;
        let address = a.address.to_string();
        drop(a);
        for _ in 0..10 {
            assert_eq!(stack.get("/history/x").await, 200, "nobody notices");
        }
        let again = eventually("the port is free", async || {
            let free = tokio::net::TcpListener::bind(&address).await;
            free.ok().map(drop)
        });
        again.await;
        let a = stack.instance(&address, named("again")).await;
        eventually("it is used again", async || {
            stack.get("/history/x").await;
            (a.hits() > 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_spread() {
    fn greeter(name: &'static str) -> Router {
        let greet = move |upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(move |mut socket| async move {
                let _ = socket.send(Message::text(name)).await;
                while let Some(Ok(_)) = socket.recv().await {}
            })
        };
        Router::new().route("/kafka-ws/v1/topics/{topic}", any(greet))
    }
    for stack in Stack::both().await {
        let a = stack.instance("127.0.0.1:0", greeter("first")).await;
        let b = stack.instance("127.0.0.1:0", greeter("second")).await;
        stack.test.engines.client.urls().set(Service::KafkaWs, format!("{},{}", a.url(), b.url()));
        let url = format!("ws://{}/kafka-ws/v1/topics/a.b", stack.addr);
        let greeting = async || {
            let (mut socket, _) = connect_async(&url).await.ok()?;
            let greeting = tokio::time::timeout(std::time::Duration::from_secs(5), socket.next()).await;
            Some((greeting.ok()??.ok()?.into_text().ok()?.to_string(), socket))
        };
        eventually("the instances are used", async || {
            let (text, _socket) =
                tokio::time::timeout(std::time::Duration::from_secs(1), greeting()).await.ok()??;
            (text == "first" || text == "second").then_some(())
        })
        .await;
        // Open at the same time: the one that has fewer is the next one.
        let (first, second) = (greeting().await.unwrap(), greeting().await.unwrap());
        assert_eq!(HashSet::from([first.0.as_str(), second.0.as_str()]).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_io_sessions_stay_with_who_opened_them() {
    #[derive(Deserialize)]
    struct Polling {
        sid: Option<String>,
    }
    fn polled(name: &'static str) -> Router {
        let answer = async move |Query(Polling { sid }): Query<Polling>| -> Response {
            match sid {
                None => format!("97:0{{\"sid\":\"{name}-{}\",\"upgrades\":[]}}", uuid()).into_response(),
                Some(sid) if sid.starts_with(name) => "2:40".into_response(),
                Some(_) => StatusCode::BAD_REQUEST.into_response(),
            }
        };
        Router::new().route("/socket.io/", any(answer))
    }
    for stack in Stack::both().await {
        let a = stack.instance("127.0.0.1:0", polled("first")).await;
        let b = stack.instance("127.0.0.1:0", polled("second")).await;
        stack.test.engines.client.urls().set(Service::DataBroker, format!("{},{}", a.url(), b.url()));
        let open = async || {
            let (_, body) = stack.plain("GET", "/socket.io/?EIO=3&transport=polling", "").await;
            body.split('"').nth(3).map(ToOwned::to_owned)
        };
        eventually("the instances are used", async || open().await).await;
        let mut openers = HashSet::new();
        for _ in 0..6 {
            let sid = open().await.unwrap();
            openers.insert(sid.split('-').next().unwrap().to_owned());
            for _ in 0..3 {
                let path = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
                assert_eq!(stack.plain("GET", &path, "").await.0, 200);
            }
        }
        assert_eq!(openers.len(), 2);
    }
}

fn uuid() -> String {
    common::testing::fresh_tenant().to_string()
}
