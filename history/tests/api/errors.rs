//! What is refused, and how.

use serde_json::json;

use crate::{base_ms, both};

#[tokio::test]
async fn what_is_not_there_is_404() {
    for api in both().await {
        let device = json!({ "title": "Device not found", "description": "No data for the given device could be found" });
        let attr = json!({ "title": "Attr not found", "description": "No data for the given attribute could be found" });
        api.store("d1", "t", base_ms(), &["1"]).await;
        for (path, expected) in [
            ("/device/never/history", &device),
            ("/device/never/history?attr=t", &device),
            ("/device/never/history?attr=t,h", &device),
            ("/device/a%3Ab/history?attr=t", &device),
            // It has samples, but no templates any more.
            ("/device/d1/history", &device),
            ("/device/d1/history?attr=h", &attr),
            ("/device/d1/history?attr=T", &attr),
            ("/device/d1/history?attr=t&dateFrom=2100-01-01", &attr),
            ("/device/known/history?attr=t", &attr),
            ("/notifications/history", &device),
            ("/notifications/history/?limit=3", &device),
        ] {
            assert_eq!(api.get(path).await, (404, expected.clone()), "{path}");
        }
        assert_eq!(api.get("/device/known/history?attr=t,h").await.0, 200);
        assert_eq!(api.get("/nowhere").await.0, 404);
    }
}

#[tokio::test]
async fn bad_parameters_are_400() {
    for api in both().await {
        api.store("d1", "t", base_ms(), &["1"]).await;
        for (query, description) in [
            ("lastN=abc", "The \"lastN\" parameter is invalid. Must be integer."),
            ("firstN=1.5", "The \"firstN\" parameter is invalid. Must be integer."),
            ("hLimit=1e3", "The \"hLimit\" parameter is invalid. Must be integer."),
            ("lastN=-1", "The \"lastN\" parameter is invalid. Must not be negative."),
            ("dateFrom=soon", "The \"dateFrom\" parameter is invalid. Must be an ISO 8601 date."),
            ("dateTo=2018-02-30", "The \"dateTo\" parameter is invalid. Must be an ISO 8601 date."),
        ] {
            let expected = json!({ "title": "Invalid parameter", "description": description });
            let path = format!("/device/d1/history?attr=t&{query}");
            assert_eq!(api.get(&path).await, (400, expected), "{path}");
        }
    }
}

#[tokio::test]
async fn callers_are_verified() {
    for api in both().await {
        for path in ["/device/d1/history?attr=t", "/notifications/history"] {
            let response = api.anonymous(path).send().await.unwrap();
            assert_eq!(response.status(), 401);
            assert_eq!(response.headers()["www-authenticate"], "Token type=\"JWT\"");
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(body["title"], "Authentication required");
            let forged = api.anonymous(path).header("x-tatami-caller", "e30.e30");
            assert_eq!(forged.send().await.unwrap().status(), 401);
        }
    }
}

#[tokio::test]
async fn other_forms_are_406() {
    for api in both().await {
        api.store("d1", "t", base_ms(), &["1"]).await;
        for (accept, status) in [
            ("application/xml", 406),
            ("text/html", 406),
            ("*/*", 200),
            ("application/*", 200),
            ("text/html, */*;q=0.1", 200),
        ] {
            let request = api.request("/device/d1/history?attr=t").header("accept", accept);
            assert_eq!(request.send().await.unwrap().status(), status, "{accept}");
        }
    }
}
