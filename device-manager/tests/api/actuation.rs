use common::wire::Subject;
use reqwest::Method;
use serde_json::json;

use crate::stack::{error, not_found, stacks};

#[tokio::test(flavor = "multi_thread")]
async fn an_actuation_is_published() {
    for stack in stacks().await {
        let api = stack.fresh();
        let mut events = api.events(Subject::DEVICE).await;
        api.thermometer().await;
        api.device("cafe", json!([1])).await;
        assert_eq!(events.next().await.1["event"], "create");
        let body = json!({ "attrs": { "fan": 100 }, "id": "beef", "extra": [1] });
        let (status, text) = api.text(Method::PUT, "/device/cafe/actuate", Some(body)).await;
        let sent = "configuration sent to device";
        assert_eq!((status, text), (200, format!("{{\" status\":\"{sent}\",\"status\":\"{sent}\"}}")));
        let (key, event) = events.next().await;
        assert_eq!(key, Some(format!("{}:cafe", api.tenant)));
        assert_eq!(event["event"], "configure");
        assert_eq!(event["data"], json!({ "attrs": { "fan": 100 }, "id": "cafe", "extra": [1] }));
        assert_eq!(event["meta"]["service"], api.tenant.as_str());
        assert!(event["meta"]["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_actuators_of_known_devices_are_configured() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.device("cafe", json!([1])).await;
        let body = json!({ "attrs": { "temperature": 1, "fan": 2, "nothing": 3 } });
        let refused = json!({
            "attrs": ["temperature", "nothing"],
            "status": "some of the attributes are not configurable",
        });
        assert_eq!(api.put("/device/cafe/actuate", body.clone()).await, (403, refused));
        assert_eq!(api.put("/device/dead/actuate", body).await, not_found("No such device: dead"));
        for body in [json!({}), json!({ "attrs": [1] }), json!({ "attrs": null })] {
            assert_eq!(api.put("/device/cafe/actuate", body).await, (400, error("attrs is missing")));
        }
        assert_eq!(
            api.put("/device/cafe/actuate", json!([])).await,
            (400, error("the payload must be a JSON object"))
        );
        // The content type does not matter here.
        let request = stack.engines.request(Method::PUT, &stack.base, "/device/cafe/actuate", &api.caller);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(r#"{"attrs":{"fan":1}}"#).send().await.unwrap();
        assert_eq!(response.status(), 200);
        stack.stop().await;
    }
}
