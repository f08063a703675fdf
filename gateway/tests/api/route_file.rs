//! A file changes the route table while the gateway runs.

use std::{fs, path::Path, sync::Arc};

use axum::{Router, http::HeaderMap, routing::any};
use common::testing::{TestEngines, eventually};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::support::{Instance, Stack, config};

const TOKEN: &str = "Authorization: Bearer good\r\n";

async fn with_file(test: TestEngines, file: &Path) -> Stack {
    let routes_file = file.display().to_string();
    Stack::start(test, gateway::Config { routes_file, ..config() }).await
}

fn route(name: &str, instance: &Instance, access: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nurls = [\"{}\"]\nprefixes = [\"/{name}\"]\nstrip = \"/{name}\"\n\
         access = \"{access}\"\n",
        instance.url()
    )
}

/// Writes as editors and configuration maps do: another file takes the place.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_added_and_removed_without_a_restart() {
    for test in TestEngines::both().await {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("routes.toml");
        fs::write(&file, "").unwrap();
        let stack = with_file(test, &file).await;
        let gate = Arc::new(Semaphore::new(0));
        let wait = Arc::clone(&gate);
        let router = Router::new()
            .route("/slow", any(async move || wait.acquire().await.map(|_| "late").unwrap()))
            .fallback(async |headers: HeaderMap| {
                let header = |name: &str| headers.get(name).map_or("none", |value| value.to_str().unwrap());
                let names = ["x-consumer-username", "x-tatami-tenant", "x-tatami-caller"];
                names.map(header).join(" ")
            });
        let own = stack.instance("127.0.0.1:0", router).await;
        assert_eq!(stack.get("/own/x").await, 404);

        replace(&file, &route("own", &own, "protected"));
        eventually("the route is there", async || (stack.get("/own/x").await == 200).then_some(())).await;
        let (_, body) = stack.plain("GET", "/own/x", TOKEN).await;
        assert!(body.contains("joe admin none"), "strangers get names and nothing signed: {body}");
        assert_eq!(stack.plain("GET", "/own/x", "").await.0, 401);
        assert_eq!(stack.plain("GET", "/own/x", "Authorization: Bearer denied\r\n").await.0, 403);
        assert_eq!(stack.get("/device").await, 200, "the embedded routes stay");

        // A request that is under way keeps the table that it began with.
        let before = own.hits();
        let late = stack.plain("GET", "/own/slow", TOKEN);
        let removed = async {
            eventually("it is under way", async || (own.hits() > before).then_some(())).await;
            replace(&file, "remove = [\"history\"]\n");
            eventually("the route is gone", async || (stack.get("/own/x").await == 404).then_some(())).await;
            gate.add_permits(1);
        };
        let ((status, body), ()) = tokio::join!(late, removed);
        assert_eq!((status, body.contains("late")), (200, true), "{body}");
        assert_eq!(stack.get("/history/x").await, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_can_be_enough() {
    for test in TestEngines::both().await {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("routes.toml");
        fs::write(&file, "").unwrap();
        let stack = with_file(test, &file).await;
        let own = stack.instance("127.0.0.1:0", Router::new().fallback(async || "own")).await;
        replace(&file, &route("own", &own, "token"));
        eventually("the route is there", async || (stack.get("/own").await == 200).then_some(())).await;
        for (token, status) in [("denied", 200), ("unknown", 401)] {
            let headers = format!("Authorization: Bearer {token}\r\n");
            assert_eq!(stack.plain("GET", "/own", &headers).await.0, status, "{token}");
        }
        assert_eq!(stack.plain("GET", "/own", "").await.0, 401);
        // A table with a mistake, then one without: the first changes nothing, and the second is not missed.
        replace(&file, &route("own", &own, "nobody"));
        assert_eq!(stack.get("/own").await, 200);
        replace(&file, &route("other", &own, "token"));
        eventually("the route is there", async || (stack.get("/other").await == 200).then_some(())).await;
        assert_eq!(stack.get("/own").await, 404);
    }
}
