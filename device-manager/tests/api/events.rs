use common::{
    testing::fresh_tenant,
    wire::{Subject, Tenant},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Events, stacks};

async fn expect(events: &mut Events, tenant: &Tenant, event: &str, device: &Value) {
    let (key, found) = events.next().await;
    let meta = json!({ "service": tenant });
    assert_eq!(found, json!({ "event": event, "data": device, "meta": meta }));
    assert_eq!(key, Some(format!("{tenant}:{}", device["id"].as_str().unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_device_is_published_in_order() {
    for stack in stacks().await {
        let api = stack.fresh();
        let mut events = api.events(Subject::DEVICE).await;
        let template = api.thermometer().await;
        api.template("extra", json!([])).await;
        let created = api.device("cafe", json!([1])).await;
        let (_, put) = api.put("/device/cafe", json!({ "label": "x", "templates": [1] })).await;
        let (_, added) = api.post("/device/cafe/template/2", json!({})).await;
        let (_, taken) = api.delete("/device/cafe/template/2").await;
        let (_, edited) = api.put("/template/1", json!({ "label": "T", "attrs": template["attrs"] })).await;
        let (_, after_edit) = api.get("/device/cafe").await;
        let (_, removed) = api.delete("/device/cafe").await;
        let (_, two) = api.post("/device?count=2", json!({ "label": "d" })).await;
        let (_, all) = api.delete("/device").await;

        let tenant = &api.tenant;
        expect(&mut events, tenant, "create", &created).await;
        expect(&mut events, tenant, "update", &put["device"]).await;
        expect(&mut events, tenant, "update", &added["device"]).await;
        expect(&mut events, tenant, "update", &taken["device"]).await;
        expect(&mut events, tenant, "update", &after_edit).await;
        let (_, template_update) = events.next().await;
        let data = json!({ "affected": ["cafe"], "template": edited["updated"] });
        let meta = json!({ "service": tenant });
        assert_eq!(template_update, json!({ "event": "template.update", "data": data, "meta": meta }));
        expect(&mut events, tenant, "remove", &removed["removed_device"]).await;
        for device in two["devices"].as_array().unwrap() {
            let (_, event) = events.next().await;
            assert_eq!((&event["event"], &event["data"]["id"]), (&json!("create"), &device["id"]));
        }
        for device in all["removed_devices"].as_array().unwrap() {
            expect(&mut events, tenant, "remove", device).await;
        }
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_published() {
    for stack in stacks().await {
        let api = stack.fresh();
        let mut events = api.events(Subject::DEVICE).await;
        api.thermometer().await;
        api.device("cafe", json!([1])).await;
        assert_eq!(api.post("/device", json!({ "label": "d", "id": "cafe" })).await.0, 400);
        assert_eq!(api.put("/device/cafe", json!({ "label": "d", "templates": [9] })).await.0, 404);
        assert_eq!(api.put("/device/cafe/actuate", json!({ "attrs": { "model": 1 } })).await.0, 403);
        assert_eq!(api.put("/device/cafe/actuate", json!({ "attrs": { "fan": 1 } })).await.0, 200);
        assert_eq!(events.next().await.1["event"], "create");
        assert_eq!(events.next().await.1["event"], "configure");
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_of_many_devices_updates_them_all() {
    for stack in stacks().await {
        let api = stack.fresh();
        let mut events = api.events(Subject::DEVICE).await;
        api.thermometer().await;
        api.post("/device?count=520", json!({ "label": "d", "templates": [1] })).await;
        for _ in 0..520 {
            events.next().await;
        }
        assert_eq!(api.put("/template/1", json!({ "label": "T", "attrs": [] })).await.0, 200);
        let mut ids = Vec::new();
        for _ in 0..520 {
            let (_, event) = events.next().await;
            assert_eq!((&event["event"], &event["data"]["attrs"]), (&json!("update"), &json!({ "1": [] })));
            ids.push(event["data"]["id"].clone());
        }
        let (_, last) = events.next().await;
        assert_eq!((&last["event"], &last["data"]["affected"]), (&json!("template.update"), &json!(ids)));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_gone_leaves_nothing() {
    for stack in stacks().await {
        let (gone, stays) = (fresh_tenant(), fresh_tenant());
        for tenant in [&gone, &stays] {
            let api = stack.api(tenant);
            api.thermometer().await;
            assert_eq!(api.post("/device?count=600", json!({ "label": "d", "templates": [1] })).await.0, 200);
        }
        for tenant in [&gone, &stays] {
            stack.neighbours.create_tenant(tenant).await;
        }
        let old = stack.api(&gone);
        stack.neighbours.remove_tenant(&gone, &["device-manager"]).await;
        assert_eq!(old.get("/device?idsOnly").await.1, json!([]));
        assert_eq!(old.get("/template").await.1["templates"], json!([]));
        let (_, others) = stack.api(&stays).get("/device?page_size=100").await;
        assert_eq!(others["pagination"]["total"], 6);
        // The name can be used again.
        assert_eq!(old.thermometer().await["id"], 2);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_while_the_service_was_down_is_made_up_for_once() {
    for stack in stacks().await {
        let gone = fresh_tenant();
        stack.neighbours.create_tenant(&gone).await;
        let api = stack.api(&gone);
        api.thermometer().await;
        // Nobody announces it: the service learns it from the list, as after a start.
        stack.neighbours.record_removal(&gone, &["device-manager"]);
        stack.another().await;
        stack.neighbours.removal_is_over(&gone).await;
        assert_eq!(api.get("/template").await.1["templates"], json!([]));
        // A request of the former tenant that was on its way leaves nothing behind.
        let mut former = stack.api(&gone);
        former.caller.generation = 1;
        for (method, path) in
            [(Method::POST, "/template"), (Method::POST, "/device"), (Method::DELETE, "/device")]
        {
            let body = json!({ "label": "late", "attrs": [] });
            assert_eq!(former.send(method.clone(), path, Some(body)).await.0, 401, "{method} {path}");
        }
        // The name belongs to another tenant now, and an instance that is late does not touch what is its.
        stack.neighbours.create_tenant(&gone).await;
        let mut api = api;
        api.caller.generation = 2;
        api.thermometer().await;
        stack.neighbours.record_removal_again(&gone, "device-manager");
        stack.neighbours.announce("DELETE", &Tenant::parse("nobody").unwrap()).await;
        stack.neighbours.removal_is_over(&gone).await;
        assert_eq!(api.get("/template").await.1["templates"].as_array().unwrap().len(), 1);
        stack.stop().await;
    }
}
