//! What is answered, and in which shape.

use serde_json::json;

use crate::{base_ms, both, ts};

#[tokio::test]
async fn one_attribute_is_a_bare_array() {
    for api in both().await {
        let base = base_ms();
        let mut sample = api.sample("d1", "t", base, "10.5");
        sample.metadata = r#"{"protocol":"mqtt"}"#.to_owned();
        let later = api.sample("d1", "t", base + 171, r#"{"b":1,"a":[null,"ü"]}"#);
        api.test.engines.history.insert(&[sample, later]).await.unwrap();
        let expected = json!([
            { "attr": "t", "value": { "b": 1, "a": [null, "ü"] }, "device_id": "d1", "ts": ts(base + 171), "metadata": {} },
            { "attr": "t", "value": 10.5, "device_id": "d1", "ts": ts(base), "metadata": { "protocol": "mqtt" } },
        ]);
        for path in
            ["/device/d1/history?attr=t", "/device/d1/history/?attr=t", "/device/d1/history?attr=,t,&x=1"]
        {
            assert_eq!(api.get(path).await, (200, expected.clone()), "{path}");
        }
        let response = api.request("/device/d1/history?attr=t").send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json; charset=UTF-8");
        assert!(ts(base + 171).ends_with(".171000Z") && !ts(base).contains('.'));
    }
}

#[tokio::test]
async fn values_are_answered_as_they_were_sent() {
    for api in both().await {
        let values = ["1.0", "9007199254740993", "1e3", "\"\\u00fc\"", "{\"a\":1,\"a\": 2}", "null"];
        api.store("d1", "t", base_ms(), &values).await;
        let text =
            api.request("/device/d1/history?attr=t&firstN=9").send().await.unwrap().text().await.unwrap();
        for value in values {
            assert!(text.contains(&format!("\"value\":{value},")), "{value} {text}");
        }
    }
}

#[tokio::test]
async fn several_attributes_are_an_object_in_their_order() {
    for api in both().await {
        let base = base_ms();
        api.store("d1", "t", base, &["1", "2"]).await;
        api.store("d1", "h", base, &["3"]).await;
        for path in ["/device/d1/history?attr=t&attr=zz&attr=h", "/device/d1/history?attr=t,zz,h"] {
            let response = api.request(path).send().await.unwrap();
            let text = response.text().await.unwrap();
            let item = |attr: &str, value: &str, ms| {
                format!(
                    r#"{{"attr":"{attr}","value":{value},"device_id":"d1","ts":"{}","metadata":{{}}}}"#,
                    ts(ms)
                )
            };
            let expected = format!(
                r#"{{"t":[{},{}],"zz":[],"h":[{}]}}"#,
                item("t", "2", base + 1000),
                item("t", "1", base),
                item("h", "3", base)
            );
            assert_eq!(text, expected);
        }
        let (status, body) = api.get("/device/d1/history?attr=x,y").await;
        assert_eq!((status, body), (200, json!({ "x": [], "y": [] })));
    }
}

#[tokio::test]
async fn without_attributes_those_of_the_templates_are_answered() {
    for api in both().await {
        let base = base_ms();
        let (status, body) = api.get("/device/known/history").await;
        assert_eq!((status, body), (200, json!({ "t": [], "model": [], "h": [] })));
        api.store("known", "h", base, &["1", "2", "3"]).await;
        api.store("known", "unknown to the templates", base, &["1"]).await;
        for path in ["/device/known/history?lastN=2", "/device/known/history/?attr=&hLimit=2"] {
            let (status, body) = api.get(path).await;
            assert_eq!(status, 200);
            let members: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(members, ["t", "model", "h"]);
            let values: Vec<_> = body["h"].as_array().unwrap().iter().map(|item| &item["value"]).collect();
            assert_eq!(values, [3, 2]);
        }
    }
}

#[tokio::test]
async fn limits_orders_and_dates() {
    for api in both().await {
        let base = base_ms();
        api.store("d1", "t", base, &["0", "1", "2", "3", "4"]).await;
        let at = |n: i64| ts(base + 1000 * n);
        let naive = |n: i64| at(n).trim_end_matches('Z').to_owned();
        let spaced = |n: i64| naive(n).replace('T', "%20");
        for (query, expected) in [
            (String::new(), "4 3 2 1 0"),
            ("&lastN=2".to_owned(), "4 3"),
            ("&firstN=2".to_owned(), "0 1"),
            ("&hLimit=1".to_owned(), "4"),
            ("&hLimit=1&lastN=2".to_owned(), "4 3"),
            ("&hLimit=1&lastN=2&firstN=3".to_owned(), "0 1 2"),
            ("&lastN=0".to_owned(), "4 3 2 1 0"),
            ("&lastN=100".to_owned(), "4 3 2 1 0"),
            (format!("&dateFrom={}", at(3)), "4 3"),
            (format!("&dateTo={}", naive(1)), "1 0"),
            (format!("&dateFrom={}&dateTo={}", spaced(1), at(3)), "3 2 1"),
            (format!("&dateFrom={}&dateTo={}&firstN=2", at(1), at(3)), "1 2"),
            (format!("&dateFrom={}%2B00:00", naive(4)), "4"),
            // A plus that nobody escaped.
            (format!("&dateFrom={}+00:00", naive(4)), "4"),
            (format!("&dateFrom={}", &at(0)[..10]), "4 3 2 1 0"),
        ] {
            assert_eq!(api.values(&format!("/device/d1/history?attr=t{query}")).await, expected, "{query}");
        }
    }
}

#[tokio::test]
async fn single_spaces_are_left_out_and_not_counted() {
    for api in both().await {
        let space = "\" \"";
        api.store("d1", "t", base_ms(), &["1", space, "2", space, space, "3", space]).await;
        api.store("d1", "cleared", base_ms(), &[space, space]).await;
        assert_eq!(api.values("/device/d1/history?attr=t").await, "3 2 1");
        assert_eq!(api.values("/device/d1/history?attr=t&lastN=2").await, "3 2");
        assert_eq!(api.values("/device/d1/history?attr=t&firstN=3").await, "1 2 3");
        assert_eq!(api.get("/device/d1/history?attr=cleared").await.0, 404);
        let (_, body) = api.get("/device/d1/history?attr=cleared,x").await;
        assert_eq!(body, json!({ "cleared": [], "x": [] }));
    }
}

#[tokio::test]
async fn large_results_come_whole_and_in_order() {
    for api in both().await {
        let base = base_ms();
        let values: Vec<String> = (0..9000).map(|n| n.to_string()).collect();
        // Ten samples per millisecond.
        let samples: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let mut sample = api.sample("d1", "t", base + index as i64 / 10, value);
                sample.id[..8].copy_from_slice(&(index as u64).to_be_bytes());
                sample
            })
            .collect();
        api.test.engines.history.insert(&samples).await.unwrap();
        assert_eq!(api.values("/device/d1/history?attr=t&firstN=0").await, values.join(" "));
        let newest: Vec<&str> = values.iter().rev().take(5000).map(String::as_str).collect();
        assert_eq!(api.values("/device/d1/history?attr=t&lastN=5000").await, newest.join(" "));
        let (_, body) = api.get("/device/d1/history?attr=t,x,t2").await;
        assert_eq!(body["t"].as_array().unwrap().len(), 9000);
        assert_eq!((&body["x"], &body["t2"]), (&json!([]), &json!([])));
    }
}
