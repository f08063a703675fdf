//! Lists that are larger than what is held of them.

use common::testing::{TestEngines, eventually};
use device_manager::Config;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::stack::{Api, Stack, config};

const DEVICES: usize = 250;

async fn start(engines: TestEngines) -> Stack {
    let config = Config { max_page_size: 1000, lists_per_tenant: 2, list_wait_ms: 200, ..config() };
    Stack::start_with(engines, config).await
}

/// So many devices of so many attributes.
async fn fill(api: &Api<'_>, attrs: usize) {
    let attrs: Vec<Value> = (0..attrs)
        .map(|number| json!({ "label": format!("a{number}"), "type": "dynamic", "value_type": "float" }))
        .collect();
    api.template("large", json!(attrs)).await;
    let path = format!("/device?count={DEVICES}&verbose=false");
    let (status, answer) = api.post(&path, json!({ "label": "d", "templates": [1] })).await;
    assert_eq!(status, 200, "{answer}");
}

async fn request(api: &Api<'_>, path: &str) -> Response {
    api.stack.engines.request(Method::GET, &api.stack.base, path, &api.caller).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_whole_however_large_it_is() {
    for engines in TestEngines::both().await {
        let stack = start(engines).await;
        let api = stack.fresh();
        fill(&api, 20).await;
        for (query, total) in [("page_size=1000", 1), ("page_size=240&sortBy=label", 2), ("page_size=150", 2)]
        {
            for page_num in 1..=total {
                let query = format!("{query}&page_num={page_num}");
                let (_, ids) = api.get(&format!("/device?idsOnly=true&{query}")).await;
                let (status, page) = api.get(&format!("/device?{query}")).await;
                let devices = page["devices"].as_array().unwrap();
                let shown: Vec<&Value> = devices.iter().map(|device| &device["id"]).collect();
                assert_eq!((status, json!(shown)), (200, ids), "{query}");
                assert_eq!(page["pagination"]["total"], total, "{query}");
                let last = devices.last().unwrap();
                let alone = api.get(&format!("/device/{}", last["id"].as_str().unwrap())).await;
                assert_eq!(alone, (200, last.clone()));
            }
        }
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_his_lists_waits_alone() {
    for engines in TestEngines::both().await {
        let stack = start(engines).await;
        let (greedy, other) = (stack.fresh(), stack.fresh());
        fill(&greedy, 600).await;
        let all = "/device?page_size=1000";
        let unread = [request(&greedy, all).await, request(&greedy, all).await];
        for path in [all, "/device?idsOnly=1", "/template"] {
            let refused = request(&greedy, path).await;
            assert_eq!(refused.status(), 503, "{path}");
            assert_eq!(refused.headers()["retry-after"], "1");
        }
        for path in [all, "/device?idsOnly=1", "/template"] {
            assert_eq!(other.get(path).await.0, 200, "{path}");
        }
        let (status, _) = greedy.post("/device", json!({ "label": "x", "templates": [1] })).await;
        assert_eq!(status, 200, "what is no list goes on");
        drop(unread);
        eventually("there are turns again", async || (greedy.get(all).await.0 == 200).then_some(())).await;
        stack.stop().await;
    }
}
