use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{error, not_found, stacks, without_times};

fn attr(label: &str, kind: &str) -> Value {
    json!({ "label": label, "type": kind, "value_type": "string" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_shown_as_dojot_does() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        let config =
            json!({ "label": "protocol", "type": "meta", "value_type": "string", "static_value": "" });
        let (status, text) = api
            .text(Method::POST, "/template", Some(json!({ "label": "", "attrs": [config], "x": 1 })))
            .await;
        assert_eq!(status, 200);
        insta::assert_snapshot!("created_template", without_times(&text));
        let (_, text) = api.text(Method::GET, "/template/1", None).await;
        insta::assert_snapshot!("template", without_times(&text));
        let (_, text) = api.text(Method::GET, "/template?attr_format=single", None).await;
        insta::assert_snapshot!("template_list", without_times(&text));
        let (_, split) = api.get("/template?attr_format=split").await;
        assert!(split["templates"][0].get("attrs").is_none());
        assert_eq!(split["templates"][0]["data_attrs"].as_array().unwrap().len(), 3);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_templates_are_named() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        let label_rule = json!({
            "errors": { "label": ["Labels must contain letters, numbers or dashes(-_)"] },
            "message": "failed to parse attr",
        });
        let missing = json!({
            "errors": { "label": ["Missing data for required field."] },
            "message": "failed to parse input",
        });
        for (body, expected) in [
            (json!({ "attrs": [] }), missing),
            (json!({ "label": "x", "attrs": [attr("a b", "meta")] }), label_rule),
            (
                json!({ "label": "x", "attrs": [attr("a", "meta"), attr("a", "meta")] }),
                error("Template attribute constraints are violated by the request"),
            ),
            (json!({ "label": "x" }), error("attrs is missing")),
        ] {
            for (method, path) in [(Method::POST, "/template"), (Method::PUT, "/template/1")] {
                let answer = api.send(method.clone(), path, Some(body.clone())).await;
                assert_eq!(answer, (400, expected.clone()), "{method} {body}");
            }
        }
        for method in [Method::GET, Method::DELETE] {
            let answer = api.send(method.clone(), "/template/999", None).await;
            assert_eq!(answer, not_found("No such template: 999"));
            let answer = api.send(method.clone(), "/template/99999999999999999999", None).await;
            assert_eq!(answer, not_found("No such template: 99999999999999999999"));
            let answer = api.send(method, "/template/abc", None).await;
            assert_eq!(answer, (400, error("a template id must be an integer")));
        }
        let answer = api.put("/template/999", json!({ "label": "x", "attrs": [] })).await;
        assert_eq!(answer, not_found("No such template: 999"));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_keeps_what_devices_override() {
    for stack in stacks().await {
        let api = stack.fresh();
        let template = api.thermometer().await;
        let overridden = json!([
            { "id": 3, "template_id": "1", "label": "model", "static_value": "m2" },
            { "id": 1, "template_id": 1, "label": "temperature", "metadata": [{ "id": 2, "static_value": "K" }] },
        ]);
        let body = json!({ "id": "abcd", "label": "d", "templates": ["1"], "attrs": overridden });
        assert_eq!(api.post("/device", body).await.0, 200);

        // Unchanged: no `updated`.
        let (status, answer) = api.put("/template/1", template.clone()).await;
        assert_eq!((status, &answer["result"]), (200, &json!("ok")));
        assert_eq!(answer["updated"], template);

        // `model` gets another label and swaps places with a new attribute; `fan` goes.
        let edit = json!({ "label": "T2", "attrs": [
            { "id": 3, "label": "variant", "type": "static", "value_type": "string", "static_value": "m1" },
            { "label": "temperature", "type": "dynamic", "value_type": "float" },
            attr("model", "static"),
        ] });
        let (status, answer) = api.put("/template/1", edit).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["updated"]["updated"].is_string());
        let (_, device) = api.get("/device/abcd").await;
        let attrs = device["attrs"]["1"].as_array().unwrap();
        let shown: Vec<_> = attrs
            .iter()
            .map(|attr| {
                json!([attr["id"], attr["label"], attr["static_value"], attr["is_static_overridden"]])
            })
            .collect();
        let expected =
            json!([[1, "temperature", null, null], [3, "variant", "m2", true], [5, "model", null, null],]);
        assert_eq!(json!(shown), expected, "{}", stack.engines.kind);
        assert_eq!(attrs[0]["metadata"][0]["static_value"], "K");
        assert_eq!(attrs[0]["metadata"][0]["is_static_overridden"], true);

        // Labels can be exchanged; an empty list removes metadata, and overrides of it.
        let edit = json!({ "label": "T2", "attrs": [
            { "id": 5, "label": "variant", "type": "static", "value_type": "string" },
            { "id": 3, "label": "model", "type": "static", "value_type": "string" },
            { "label": "temperature", "type": "dynamic", "value_type": "float", "metadata": [] },
        ] });
        assert_eq!(api.put("/template/1", edit).await.0, 200);
        let (_, device) = api.get("/device/abcd").await;
        assert_eq!(device["attrs"]["1"][1]["label"], "model");
        assert_eq!(device["attrs"]["1"][1]["static_value"], "m2");
        assert!(device["attrs"]["1"][0].get("metadata").is_none());
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_one_device_do_not_collide() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.template("one", json!([attr("a", "static")])).await;
        api.template("two", json!([attr("b", "static"), attr("a", "dynamic")])).await;
        api.device("abcd", json!([1, 2])).await;
        let edit = json!({ "label": "two", "attrs": [attr("b", "static"), attr("a", "static")] });
        let answer = api.put("/template/2", edit.clone()).await;
        assert_eq!(answer, (400, error("Attribute a (4) has standing conflicts")));
        // Nothing of it has happened.
        let (_, template) = api.get("/template/2").await;
        assert_eq!(template["attrs"][1]["type"], "dynamic");
        assert_eq!(api.delete("/device/abcd/template/1").await.0, 200);
        assert_eq!(api.put("/template/2", edit).await.0, 200);
        let conflict =
            error("Template (1) cannot be added to device (abcd) as it has standing attribute conflicts");
        assert_eq!(api.post("/device/abcd/template/1", json!({})).await, (400, conflict));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn used_templates_stay() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.template("empty", json!([])).await;
        api.device("abcd", json!([1])).await;
        let in_use = error("Templates cannot be removed as they are being used by devices");
        assert_eq!(api.delete("/template/1").await, (400, in_use.clone()));
        assert_eq!(api.delete("/template").await, (400, in_use));
        let (status, answer) = api.delete("/template/2").await;
        assert_eq!((status, &answer["removed"]["label"]), (200, &json!("empty")));
        assert_eq!(api.delete("/template/2").await, not_found("No such template: 2"));
        assert_eq!(api.delete("/device/abcd").await.0, 200);
        let (status, answer) = api.delete("/template").await;
        assert_eq!(status, 200);
        assert_eq!(answer["removed"][0]["data_attrs"].as_array().unwrap().len(), 3);
        let (_, list) = api.get("/template").await;
        let none = json!({ "has_next": false, "next_page": null, "page": 1, "total": 0 });
        assert_eq!(list, json!({ "templates": [], "pagination": none }));
        // Identifiers are never given twice.
        assert_eq!(api.template("next", json!([attr("a", "b")])).await["id"], 3);
        stack.stop().await;
    }
}
