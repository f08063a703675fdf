use serde_json::{Value, json};

use crate::stack::{Api, Stack, error, stacks};

/// Devices 0a to 0e: `b_x`, `a%x`, `B_X`, `plain`, `a_x`; templates 1 (`serial`, `power`) and 2 (`place`).
async fn fill(stack: &Stack) -> Api<'_> {
    let api = stack.fresh();
    let attr = |label: &str, value_type: &str, value: &str| json!({ "label": label, "type": "static", "value_type": value_type, "static_value": value });
    api.template("meter", json!([attr("serial", "string", "0"), attr("power", "float", "5")])).await;
    api.template("Place_1", json!([attr("place", "geo", "here")])).await;
    for (id, label, templates) in [
        ("0a", "b_x", json!([1])),
        ("0b", "a%x", json!([1, 2])),
        ("0c", "B_X", json!([1, 2])),
        ("0d", "plain", json!([])),
        ("0e", "a_x", json!([2])),
    ] {
        let serial = json!({ "id": 1, "template_id": 1, "label": "serial", "static_value": id });
        let attrs = if id == "0b" { json!([serial]) } else { json!([]) };
        let body = json!({ "id": id, "label": label, "templates": templates, "attrs": attrs });
        assert_eq!(api.post("/device", body).await.0, 200);
    }
    api
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_filtered() {
    for stack in stacks().await {
        let api = fill(&stack).await;
        for (query, expected) in [
            ("", json!(["0a", "0b", "0c", "0d", "0e"])),
            ("limit=1&sortDsc=label&sortBy=created", json!(["0a", "0b", "0c", "0d", "0e"])),
            ("label=_x", json!(["0a", "0e"])),
            ("label=%25", json!(["0b"])),
            ("label=X", json!(["0c"])),
            ("label=", json!(["0a", "0b", "0c", "0d", "0e"])),
            ("label=%27", json!([])),
            ("template=1", json!(["0a", "0b", "0c"])),
            ("template=99", json!([])),
            ("template=99999999999999999999", json!([])),
            ("attr=serial=0", json!(["0a", "0c"])),
            ("attr=serial=0b", json!(["0b"])),
            ("attr=serial=0&attr=place=here", json!(["0c"])),
            ("attr=serial=", json!([])),
            ("attr_type=geo", json!(["0b", "0c", "0e"])),
            ("attr_type=geo&attr_type=float", json!(["0b", "0c"])),
            ("attr_type=geo&attr=power=5&label=a", json!(["0b"])),
        ] {
            let (status, ids) = api.get(&format!("/device?idsOnly=true&{query}")).await;
            assert_eq!((status, &ids), (200, &expected), "{} {query}", stack.engines.kind);
            let (_, page) = api.get(&format!("/device?page_size=50&{query}")).await;
            let devices = page["devices"].as_array().unwrap();
            let shown: Vec<&Value> = devices.iter().map(|device| &device["id"]).collect();
            assert_eq!(json!(shown), expected, "{query}");
            assert_eq!(page["pagination"]["total"], i64::from(!shown.is_empty()), "{query}");
        }
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    for stack in stacks().await {
        let api = fill(&stack).await;
        let page = |number: i64, total: i64, next: Option<i64>| json!({ "has_next": next.is_some(), "next_page": next, "page": number, "total": total });
        for (query, ids, pagination) in [
            ("page_size=2", json!(["0a", "0b"]), page(1, 3, Some(2))),
            ("page_size=2&page_num=3", json!(["0e"]), page(3, 3, None)),
            ("page_size=2&page_num=9", json!([]), page(9, 3, None)),
            ("page_size=999999", json!(["0a", "0b", "0c", "0d", "0e"]), page(1, 1, None)),
            ("page_num=99999999999999999999", json!([]), page(i64::MAX, 1, None)),
            ("page_size=2&attr_type=float&attr_type=string", json!(["0a", "0b"]), page(1, 2, Some(2))),
        ] {
            let (status, answer) = api.get(&format!("/device?{query}")).await;
            assert_eq!((status, &answer["pagination"]), (200, &pagination), "{query}");
            let devices = answer["devices"].as_array().unwrap();
            let shown: Vec<&Value> = devices.iter().map(|device| &device["id"]).collect();
            assert_eq!(json!(shown), ids, "{query}");
            let (_, only) = api.get(&format!("/device?idsOnly&{query}")).await;
            assert_eq!(only, ids, "{query}");
            // Whatever the page, a device looks the same.
            for device in devices {
                let alone = api.get(&format!("/device/{}", device["id"].as_str().unwrap())).await;
                assert_eq!(alone, (200, device.clone()));
            }
        }
        for path in ["/device", "/template", "/device/template/1"] {
            for (query, expected) in [
                ("page_num=0", "Page numbers must be greater than 1"),
                ("page_size=-1", "At least one entry per page is mandatory"),
                ("page_size=x", "page_size must be an integer"),
            ] {
                let answer = api.get(&format!("{path}?{query}")).await;
                assert_eq!(answer, (400, error(expected)), "{path} {query}");
            }
        }
        let (_, of_template) = api.get("/device/template/2?page_size=2").await;
        assert_eq!(of_template["pagination"], page(1, 2, Some(2)));
        assert_eq!(of_template["devices"][0]["id"], "0b");
        let (_, none) = api.get("/device/template/99").await;
        assert_eq!(none, json!({ "devices": [], "pagination": page(1, 0, None) }));
        let (_, by_label) = api.get("/device?sortBy=label&idsOnly=1").await;
        // Upper and lower case are sorted as the engine does.
        let labels: Vec<&str> = by_label.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(labels.iter().position(|id| *id == "0a") < labels.iter().position(|id| *id == "0d"));
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_filtered() {
    for stack in stacks().await {
        let api = fill(&stack).await;
        for (query, expected) in [
            ("", json!([1, 2])),
            ("label=meter", json!([1])),
            ("label=_", json!([2])),
            ("label=place", json!([])),
            ("attr=serial=0", json!([1])),
            ("attr=serial=0&attr=power=5", json!([1])),
            ("attr=serial=0&attr=place=here", json!([])),
            ("attr_type=geo", json!([2])),
            ("page_size=1&page_num=2", json!([2])),
            ("sortBy=label&page_size=999999", json!([1, 2])),
        ] {
            let (status, answer) = api.get(&format!("/template?{query}")).await;
            let templates = answer["templates"].as_array().unwrap();
            let ids: Vec<&Value> = templates.iter().map(|template| &template["id"]).collect();
            let sorted = query.starts_with("sortBy");
            assert_eq!(status, 200);
            assert!(sorted || json!(ids) == expected, "{query}: {ids:?}");
            assert_eq!(ids.len(), expected.as_array().unwrap().len(), "{query}");
        }
        stack.stop().await;
    }
}
