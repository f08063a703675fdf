use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{anonymous, not_found, stacks};

/// Every route with what a stranger asks of device `cafe` and template 1.
fn routes() -> Vec<(Method, &'static str, Option<Value>)> {
    let template = json!({ "label": "mine", "attrs": [] });
    vec![
        (Method::GET, "/template/1", None),
        (Method::PUT, "/template/1", Some(template)),
        (Method::DELETE, "/template/1", None),
        (Method::GET, "/device/cafe", None),
        (Method::PUT, "/device/cafe", Some(json!({ "label": "mine", "templates": [] }))),
        (Method::DELETE, "/device/cafe", None),
        (Method::PUT, "/device/cafe/actuate", Some(json!({ "attrs": { "fan": 1 } }))),
        (Method::POST, "/device/cafe/template/1", None),
        (Method::DELETE, "/device/cafe/template/1", None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn device_of_another_tenant_is_not_found() {
    for stack in stacks().await {
        let owner = stack.fresh();
        owner.thermometer().await;
        let device = owner.device("cafe", json!([1])).await;
        let stranger = stack.fresh();
        for (method, path, body) in routes() {
            let (status, answer) = stranger.send(method.clone(), path, body).await;
            let message = answer["message"].as_str().unwrap_or_default();
            assert_eq!(status, 404, "{method} {path}");
            assert!(message.starts_with("No such "), "{method} {path}: {message}");
        }
        assert_eq!(stranger.get("/device?idsOnly").await, (200, json!([])));
        assert_eq!(stranger.get("/device/template/1").await.1["devices"], json!([]));
        assert_eq!(stranger.get("/template").await.1["templates"], json!([]));
        let created = stranger.post("/device", json!({ "label": "d", "templates": [1] })).await;
        assert_eq!(created, not_found("No such template: 1"));
        assert_eq!(stranger.delete("/device").await.1["removed_devices"], json!([]));
        assert_eq!(stranger.delete("/template").await.1["removed"], json!([]));
        assert_eq!(owner.get("/device/cafe").await, (200, device));
        // The same identifier is free for everybody.
        stranger.device("cafe", json!([])).await;
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_without_a_caller() {
    for stack in stacks().await {
        let missing = json!({ "message": "No authorization token has been supplied", "status": 401 });
        let mut routes: Vec<_> = routes().into_iter().map(|(method, path, _)| (method, path)).collect();
        for path in ["/template", "/device"] {
            routes.extend([(Method::GET, path), (Method::POST, path), (Method::DELETE, path)]);
        }
        routes.push((Method::GET, "/device/template/1"));
        for (method, path) in routes {
            let answer = anonymous(&stack, method.clone(), path).await;
            assert_eq!(answer, (401, missing.clone()), "{method} {path}");
        }
        stack.stop().await;
    }
}
