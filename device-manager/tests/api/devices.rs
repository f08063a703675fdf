use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{error, not_found, stacks, without_times};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_shown_as_dojot_does() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.template("empty", json!([])).await;
        let body = json!({ "id": "ABCDEF", "label": "d", "templates": [2, "1"], "attrs": [
            { "id": 1, "template_id": 1, "label": "temperature", "static_value": 20 },
        ] });
        let (status, text) = api.text(Method::POST, "/device?verbose=True", Some(body)).await;
        assert_eq!(status, 200);
        insta::assert_snapshot!("created_device", without_times(&text));
        let (_, device) = api.get("/device/ABCDEF").await;
        assert_eq!(json!({ "devices": [device], "message": "device created" }).to_string(), text);

        let (status, text) =
            api.text(Method::PUT, "/device/ABCDEF", Some(json!({ "label": "e", "templates": [] }))).await;
        assert_eq!(status, 200);
        insta::assert_snapshot!("updated_device", without_times(&text));
        let (_, updated) = api.get("/device/ABCDEF").await;
        assert_eq!(updated["created"], device["created"]);
        let (_, text) = api.text(Method::GET, "/device", None).await;
        insta::assert_snapshot!("device_list", without_times(&text));
        let (_, text) = api.text(Method::DELETE, "/device/ABCDEF", None).await;
        insta::assert_snapshot!("removed_device", without_times(&text));
        assert_eq!(api.get("/device/ABCDEF").await, not_found("No such device: ABCDEF"));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_devices_are_created_at_once() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        let body = json!({ "id": "abcd", "label": "d", "templates": [1], "attrs": [
            { "id": 3, "template_id": 1, "label": "model", "static_value": "m2" },
        ] });
        let (status, answer) = api.post("/device?count=600", body).await;
        assert_eq!((status, &answer["message"]), (200, &json!("devices created")));
        let devices = answer["devices"].as_array().unwrap();
        let ids: HashSet<&str> = devices.iter().map(|device| device["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 600);
        assert!(!ids.contains("abcd"));
        assert_eq!((&devices[0]["label"], &devices[599]["label"]), (&json!("d_000"), &json!("d_599")));
        let id = devices[599]["id"].as_str().unwrap();
        let (_, device) = api.get(&format!("/device/{id}")).await;
        assert_eq!(device["label"], "d_599");
        assert_eq!(device["attrs"]["1"][1]["static_value"], "m2");

        let (_, answer) = api.post("/device?count=1", json!({ "label": "single" })).await;
        assert_eq!(answer["devices"][0]["label"], "single");
        for (query, expected) in [
            ("count=many", "If provided, count must be integer"),
            ("count=2&verbose=1", "Verbose can only be used for single device creation"),
            ("count=0", "count must be greater than 0"),
            ("count=601", "one request may create or remove at most 600 devices"),
        ] {
            let answer = api.post(&format!("/device?{query}"), json!({ "label": "d" })).await;
            assert_eq!(answer, (400, error(expected)), "{query}");
        }
        let too_many = error("one request may create or remove at most 600 devices");
        assert_eq!(api.delete("/device").await, (400, too_many));
        assert_eq!(api.delete(&format!("/device/{id}")).await.0, 200);
        let (status, answer) = api.delete("/device").await;
        assert_eq!((status, answer["removed_devices"].as_array().unwrap().len()), (200, 600));
        assert_eq!(api.delete("/device").await, (200, json!({ "removed_devices": [], "result": "ok" })));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_devices_are_named() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.template("same", json!([{ "label": "fan", "type": "actuator", "value_type": "x" }])).await;
        api.device("cafe", json!([1])).await;
        let label =
            json!({ "errors": { "label": ["Not a valid string."] }, "message": "failed to parse input" });
        let null = json!({
            "errors": { "templates": ["Field may not be null."] }, "message": "failed to parse input",
        });
        let id_rule = "Device ID must be 2-6 characters and must be hexadecimal (0-9,a-f,A-F).";
        let with = |attr: Value| json!({ "label": "d", "templates": [1], "attrs": [attr] });
        for (body, expected) in [
            (json!({ "label": 5 }), label),
            (json!({ "label": "d", "templates": null }), null),
            (json!({ "label": "d", "id": "xyz" }), error(json!([id_rule]))),
            (json!({ "label": "d", "id": 17 }), error(json!([id_rule]))),
            (
                json!({ "label": "d", "id": "cafe" }),
                error("duplicate key value violates unique constraint \"devices_pkey\""),
            ),
            (
                json!({ "label": "d", "id": "beef", "templates": [1, 2] }),
                error("Template (2) cannot be added to device (beef) as it has standing attribute conflicts"),
            ),
            (
                with(json!({ "id": 999, "template_id": 1, "label": "x", "static_value": "y" })),
                error("Unknown attribute 999 in override list"),
            ),
            (
                with(json!({ "id": 1, "template_id": 2, "label": "x", "static_value": "y" })),
                error("Unknown template 2 in attr list"),
            ),
            (with(json!({ "id": 1, "template_id": 1 })), error(json!(["missing label attribute"]))),
            (
                with(json!({ "id": 1, "template_id": 1, "label": "x", "static_value": {} })),
                error("static_value must not be an object"),
            ),
        ] {
            assert_eq!(api.post("/device", body.clone()).await, (400, expected), "{body}");
        }
        let unknown = api.post("/device", json!({ "label": "d", "templates": [1, 999] })).await;
        assert_eq!(unknown, not_found("No such template: 999"));
        assert_eq!(
            api.put("/device/cafe", json!({ "label": "d" })).await,
            (400, error("templates is missing"))
        );
        let answer = api.put("/device/dead", json!({ "label": "d", "templates": [] })).await;
        assert_eq!(answer, not_found("No such device: dead"));
        // Dashboards of old made up identifiers with a dot, and nobody looked at them.
        let (status, answer) = api.post("/device", json!({ "label": "d", "id": "9f3c21aa.4b1d" })).await;
        assert_eq!(status, 200);
        assert_ne!(answer["devices"][0]["id"], "9f3c21aa.4b1d");
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_come_and_go() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.template("extra", json!([{ "label": "x", "type": "static", "value_type": "string" }])).await;
        api.device("cafe", json!([1])).await;
        let override_model = json!({ "id": 3, "template_id": 1, "label": "model", "static_value": "m2" });
        let body = json!({ "label": "d", "templates": [1], "attrs": [override_model] });
        api.put("/device/cafe", body).await;
        let (status, first) = api.post("/device/cafe/template/2", json!({})).await;
        assert_eq!((status, &first["message"]), (200, &json!("device updated")));
        assert_eq!(first["device"]["templates"], json!([1, 2]));
        assert_eq!(first["device"]["attrs"]["1"][1]["static_value"], "m2");
        assert_eq!(api.post("/device/cafe/template/2", json!({})).await, (200, first.clone()));
        assert_eq!(api.get("/device/cafe").await, (200, first["device"].clone()));
        let (_, gone) = api.delete("/device/cafe/template/1").await;
        assert_eq!(gone["device"]["templates"], json!([2]));
        // Overrides go with the template.
        let (_, back) = api.post("/device/cafe/template/1", json!({})).await;
        assert_eq!(back["device"]["attrs"]["1"][1]["static_value"], "m1");
        for (method, path, expected) in [
            (Method::POST, "/device/cafe/template/999", "No such template: 999"),
            (Method::POST, "/device/dead/template/1", "No such device: dead"),
            (Method::DELETE, "/device/cafe/template/999", "Device cafe is not associated with template 999"),
            (Method::DELETE, "/device/dead/template/1", "No such device: dead"),
        ] {
            assert_eq!(api.send(method, path, None).await, not_found(expected), "{path}");
        }
        stack.stop().await;
    }
}
