use common::testing::answer_to_large;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{error, stacks};

/// Bodies that no route can use, with their content type.
fn bodies() -> Vec<(Vec<u8>, &'static str)> {
    const JSON: &str = "application/json";
    let long = "x".repeat(200_000);
    let mut bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), JSON),
        (b"{".to_vec(), JSON),
        (b"\xff\xfe".to_vec(), JSON),
        (b"{\"label\":\"\xc3\x28\",\"attrs\":[]}".to_vec(), JSON),
        ("[".repeat(100_000).into_bytes(), JSON),
        ("{\"a\":".repeat(100_000).into_bytes(), JSON),
        (b"{\"label\":\"x\",\"attrs\":[],\"templates\":[1e999]}".to_vec(), JSON),
        (br#"{"label":"x","attrs":[],"templates":[]}"#.to_vec(), "text/plain"),
        (br#"{"label":"x","attrs":[],"templates":[]}"#.to_vec(), "application/x-www-form-urlencoded"),
    ];
    let attr = |member: &str, value: Value| {
        let mut attr = json!({ "label": "a", "type": "b", "value_type": "c", "template_id": 1, "id": 1 });
        attr[member] = value;
        json!({ "label": "x", "templates": [1], "attrs": [attr] })
    };
    let values = [
        json!(7),
        json!([]),
        json!(["x"]),
        json!([[[]]]),
        json!({}),
        json!(true),
        json!("\u{0}"),
        json!(long),
    ];
    let mut documents = vec![json!(null), json!(1), json!("x"), json!([]), json!([{}]), json!({})];
    for value in values {
        documents.push(json!({ "label": value, "attrs": [], "templates": [] }));
        for member in ["type", "value_type", "label"] {
            documents.push(attr(member, value.clone()));
        }
        documents.push(json!({ "label": "x", "attrs": value, "templates": value }));
        documents.push(attr("metadata", json!([value])));
    }
    documents.push(attr("static_value", json!({ "a": 1 })));
    documents.push(attr("static_value", json!("x".repeat(129))));
    documents.push(attr("template_id", json!(u64::MAX)));
    documents.push(json!({ "label": "x", "templates": [-1, u64::MAX, i64::MIN], "attrs": null }));
    bodies.extend(documents.into_iter().map(|document| (document.to_string().into_bytes(), JSON)));
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_the_clients_fault() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        api.device("cafe", json!([1])).await;
        for (method, path) in [
            (Method::POST, "/template"),
            (Method::PUT, "/template/1"),
            (Method::POST, "/device"),
            (Method::PUT, "/device/cafe"),
            (Method::PUT, "/device/cafe/actuate"),
        ] {
            for (body, content_type) in bodies() {
                let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
                let request = stack.engines.request(method.clone(), &stack.base, path, &api.caller);
                let request = request.header("content-type", content_type).body(body);
                let response = request.send().await.unwrap();
                let status = response.status().as_u16();
                let answer: Value = response.json().await.unwrap();
                assert!(status < 500, "{method} {path} {shown}: {status} {answer}");
                if status != 200 {
                    assert!(answer.get("message").is_some(), "{method} {path} {shown}: {answer}");
                }
            }
        }
        assert_eq!(api.get("/device/cafe").await.0, 200);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_paths_and_queries_are_no_faults_of_ours() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        let long = "x".repeat(5000);
        for path in [
            "/device/%00",
            "/device/%ff",
            "/device/a%2Fb",
            "/device/..%2f",
            &format!("/device/{long}"),
            "/template/%00",
            "/template/-1",
            "/template/1.5",
            "/template/0x1",
            &format!("/template/{}", "9".repeat(1000)),
            "/device/template/x",
            "/device/template/-99999999999999999999",
            "/device?label=%00",
            "/device?label=%ff",
            "/device?attr=x",
            "/device?attr=%00=%00",
            "/device?attr_type=%00",
            "/device?template=abc",
            "/device?page_num=1e3",
            "/device?page_num=9223372036854775807&page_size=9223372036854775807",
            &format!("/device?{}", "attr=a=b&".repeat(21)),
            &format!("/device?label={long}"),
            "/device?idsOnly=%00",
            "/template?attr=x",
            "/template?sortBy=%00&attr_format=%00",
            "/nothing",
            "/device/",
            "/template/1/more",
        ] {
            let (status, answer) = api.get(path).await;
            assert!(status < 500, "{path}: {status}");
            assert!(status == 200 || answer.get("message").is_some(), "{path}: {status} {answer}");
        }
        for (method, path) in [(Method::PATCH, "/device"), (Method::POST, "/device/cafe")] {
            assert_eq!(api.send(method, path, None).await.0, 405, "{path}");
        }
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_needs_its_content_type_with_or_without_parameters() {
    for stack in stacks().await {
        let api = stack.fresh();
        for (content_type, expected) in [
            ("application/json", 200),
            ("application/json; charset=utf-8", 200),
            ("Application/JSON;charset=UTF-8", 200),
            ("text/json", 400),
        ] {
            let request = stack.engines.request(Method::POST, &stack.base, "/template", &api.caller);
            let request = request.header("content-type", content_type).body(r#"{"label":"x","attrs":[]}"#);
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{content_type}");
            if expected == 400 {
                let text = "Payload must be valid JSON, and Content-Type set accordingly";
                assert_eq!(response.json::<Value>().await.unwrap(), error(text));
            }
        }
        let response = answer_to_large(|| {
            let request = stack.engines.request(Method::POST, &stack.base, "/template", &api.caller);
            request.header("content-type", "application/json").body("x".repeat(2 << 20))
        });
        assert_eq!(response.await.status().as_u16(), 413);
        stack.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creators_do_not_disturb_each_other() {
    for stack in stacks().await {
        let api = stack.fresh();
        api.thermometer().await;
        let body = json!({ "label": "d", "templates": [1], "id": "cafe" });
        let wanted = (0..8).map(|_| api.post("/device", body.clone()));
        let free = (0..8).map(|_| api.post("/device?count=30", json!({ "label": "d", "templates": [1] })));
        let (wanted, free) =
            tokio::join!(futures_util::future::join_all(wanted), futures_util::future::join_all(free));
        assert_eq!(wanted.iter().filter(|(status, _)| *status == 200).count(), 1);
        assert_eq!(wanted.iter().filter(|(status, _)| *status == 400).count(), 7);
        assert!(free.iter().all(|(status, _)| *status == 200));
        let (_, ids) = api.get("/device?idsOnly&page_size=100&page_num=3").await;
        assert_eq!(ids.as_array().unwrap().len(), 41);
        stack.stop().await;
    }
}
