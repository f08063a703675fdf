use base64::{Engine, prelude::BASE64_STANDARD};
use common::{
    http::Caller,
    testing::fresh_tenant,
    wire::{Subject, Tenant},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Stack, anonymous, stacks};

const LOGIN: &str = "/basic-auth/v1/internal/authentication";

async fn log_in(stack: &Stack, username: &str, password: &str) -> (u16, Value) {
    let caller = Caller::service("iot-agent-mqtt", &Tenant::management());
    let request = stack.engines.request(Method::POST, &stack.base, LOGIN, &caller);
    let body = json!({ "username": username, "password": password });
    let response = request.json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn invalid() -> (u16, Value) {
    (401, json!({ "message": "The credential is invalid." }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_logs_in_with_its_last_password() {
    for stack in stacks().await {
        let mut api = stack.fresh();
        api.caller.generation = 7;
        let mut events = api.events(Subject::BASIC_CREDENTIALS).await;
        api.device("cafe", json!([])).await;
        let path = "/basic-auth/v1/devices/cafe/basic-credentials";
        let mut issued = Value::Null;
        let mut passwords = Vec::new();
        for _ in 0..2 {
            let (status, answer) = api.send(Method::POST, path, None).await;
            assert_eq!(status, 200, "{answer}");
            let username = format!("{}@cafe", api.tenant);
            let password = answer["credentials"]["password"].as_str().unwrap().to_owned();
            assert_eq!((&answer["credentials"]["username"], password.len()), (&json!(username), 15));
            let basic = BASE64_STANDARD.encode(format!("{username}:{password}"));
            assert_eq!(answer["basicAuth"], format!("Basic {basic}"));
            passwords.push(password);
            let (key, event) = events.next().await;
            assert_eq!(key, Some(format!("{}:cafe", api.tenant)));
            let data = json!({ "opr": "create", "tenant": api.tenant, "device": "cafe" });
            assert_eq!(event["data"], data);
            assert_eq!(event["metadata"]["service"], "basic-auth");
            let content_type = "application/vnd.dojot.devices.basic-credentials+json";
            assert_eq!(event["metadata"]["content_type"], content_type);
            assert!(event["metadata"]["msgid"].is_string() && event["metadata"]["ts"].is_i64());
            issued = event["metadata"]["ts"].clone();
        }
        let at = format!("{}@cafe", api.tenant);
        // The time in the event is the one that the look-up tells.
        let valid = json!({
            "message": "The credential is valid.", "tenant": api.tenant, "device": "cafe", "issued": issued,
            "generation": 7,
        });
        assert_eq!(log_in(&stack, &at, &passwords[1]).await, (200, valid.clone()));
        assert_eq!(log_in(&stack, &at.replace('@', ":"), &passwords[1]).await, (200, valid));
        assert_eq!(log_in(&stack, &at, &passwords[0]).await, invalid());
        let (_, update) = api.put("/device/cafe", json!({ "label": "d", "templates": [] })).await;
        assert_eq!(update["message"], "device updated");
        assert_eq!(log_in(&stack, &at, &passwords[1]).await.0, 200, "a new label is no new password");

        assert_eq!(api.delete("/device/cafe").await.0, 200);
        assert_eq!(log_in(&stack, &at, &passwords[1]).await, invalid());
        let gone = json!({ "opr": "delete", "tenant": api.tenant, "device": "cafe" });
        assert_eq!(events.next().await.1["data"], gone);
        // A device that gets the identifier later does not get the password.
        api.device("cafe", json!([])).await;
        assert_eq!(log_in(&stack, &at, &passwords[1]).await, invalid());
        api.send(Method::POST, path, None).await;
        events.next().await;
        assert_eq!(api.delete("/device").await.0, 200);
        assert_eq!(events.next().await.1["data"], gone);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_or_checks_a_password() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.device("cafe", json!([])).await;
        let path = "/basic-auth/v1/devices/cafe/basic-credentials";
        let not_valid = (400, json!({ "error": "Device is not valid." }));
        let stranger = stack.fresh();
        assert_eq!(stranger.send(Method::POST, path, None).await, not_valid);
        let unknown = "/basic-auth/v1/devices/dead/basic-credentials";
        assert_eq!(api.send(Method::POST, unknown, None).await, not_valid);
        let strange = "/basic-auth/v1/devices/a:b/basic-credentials";
        assert_eq!(api.send(Method::POST, strange, None).await, not_valid);
        let missing = (401, json!({ "error": "Missing JWT token" }));
        assert_eq!(anonymous(&stack, Method::POST, path).await, missing);
        let hidden = (404, json!({ "error": "Not Found" }));
        assert_eq!(api.post(LOGIN, json!({ "username": "a@b", "password": "c" })).await, hidden);
        assert_eq!(anonymous(&stack, Method::POST, LOGIN).await, hidden);
        let long = "x".repeat(10_000);
        for (username, password) in [
            (format!("{}@cafe", api.tenant), "x"),
            (format!("{}@dead", api.tenant), "x"),
            (format!("{}@cafe", fresh_tenant()), "x"),
            (String::new(), ""),
            ("nothing".to_owned(), "x"),
            ("T X@cafe".to_owned(), "x"),
            (format!("{}@cafe", api.tenant), long.as_str()),
        ] {
            assert_eq!(log_in(&stack, &username, password).await, invalid(), "{username}");
        }
        let caller = Caller::service("iot-agent-mqtt", &Tenant::management());
        for body in ["", "{}", "[]", r#"{"username":1,"password":2}"#] {
            let request = stack.engines.request(Method::POST, &stack.base, LOGIN, &caller);
            let request = request.header("content-type", "application/json").body(body);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 400, "{body}");
            assert!(response.json::<Value>().await.unwrap()["error"].is_string(), "{body}");
        }
        stack.stop().await;
    }
}
