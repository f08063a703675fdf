//! Tokens and decisions (dojot-api.md 1.2, 1.3).

use axum::{Json, Router, http::StatusCode, routing::post};
use common::{
    http::{client::Service, server::HttpServer},
    testing::eventually,
};
use serde_json::{Value, json};

use crate::support::{Stack, dead_url};

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_good_token_are_told_what_is_wrong() {
    for stack in Stack::both().await {
        for (path, headers, message) in [
            ("/device", "", "Unauthorized"),
            ("/device", "Authorization: Basic YTpi\r\n", "Unauthorized"),
            ("/device", "Authorization: good\r\n", "Unauthorized"),
            ("/device", "Cookie: jwt=good\r\n", "Unauthorized"),
            ("/device?jwt=good", "", "Unauthorized"),
            ("/device", "Authorization: Bearer unknown\r\n", "Invalid signature"),
            ("/device?jwt=good", "Authorization: Bearer unknown\r\n", "Invalid signature"),
            (
                "/device",
                "Authorization: Bearer good\r\nAuthorization: Bearer good\r\n",
                "Multiple tokens provided",
            ),
            ("/device", "Authorization: Bearer good, good\r\n", "Invalid signature"),
        ] {
            let (status, body) = stack.plain("GET", path, headers).await;
            assert_eq!((status, body), (401, format!(r#"{{"message":"{message}"}}"#)), "{path} {headers}");
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_is_forbidden() {
    for stack in Stack::both().await {
        for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
            let answer = stack.plain(method, "/device", "Authorization: Bearer denied\r\n").await;
            assert_eq!(answer, (403, r#"{"message":"Forbidden"}"#.to_owned()));
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_pdp_the_answer_is_no() {
    for stack in Stack::both().await {
        stack.test.engines.client.urls().set(Service::Auth, dead_url().await);
        let (status, body) = stack.plain("GET", "/device", "Authorization: Bearer good\r\n").await;
        assert_eq!(status, 503);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["message"], "Service Unavailable");
        assert_eq!(body["detail"]["reason"], "policy decision point");
        assert_eq!(stack.fake.seen().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_pdp_that_is_not_a_clear_permit_is_no() {
    let good = json!({
        "decision": "permit", "status": "ok", "tenant": "admin", "username": "joe", "userid": 7,
        "expires": i64::from(u32::MAX),
    });
    let without = |member: &str| {
        let mut answer = good.clone();
        answer.as_object_mut().unwrap().remove(member);
        answer
    };
    let with = |member: &str, value: Value| {
        let mut answer = good.clone();
        answer[member] = value;
        answer
    };
    for stack in Stack::both().await {
        let engines = &stack.test.engines;
        for (status, answer, expected) in [
            (200, good.clone(), 200),
            (200, with("decision", json!("Permit")), 503),
            (200, with("decision", json!(true)), 503),
            (200, with("decision", json!("deny")), 403),
            (200, without("decision"), 503),
            (200, without("tenant"), 503),
            (200, without("userid"), 503),
            (200, without("expires"), 503),
            (200, with("expires", json!(1)), 401),
            (200, with("tenant", json!("dojot-management")), 503),
            (200, with("tenant", json!("Admin.x")), 503),
            (200, json!("permit"), 503),
            (201, good.clone(), 503),
            (204, good.clone(), 503),
            (302, good.clone(), 503),
            (400, good.clone(), 503),
            (401, good.clone(), 503),
            (403, good.clone(), 503),
            (500, good.clone(), 503),
        ] {
            let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
            let url = format!("http://{}", http.local_addr().unwrap());
            let (reply, code) = (answer.clone(), StatusCode::from_u16(status).unwrap());
            let pdp = Router::new().route("/pdp", post(async move || (code, Json(reply))));
            engines.shutdown.spawn("pdp", http.run(pdp, engines.shutdown.clone()));
            engines.client.urls().set(Service::Auth, url);
            let path = format!("/device/{status}-{}", answer.to_string().len());
            let authorization = format!("Authorization: Bearer {}\r\n", uuid_like(&answer, status));
            let (got, body) = stack.plain("GET", &path, &authorization).await;
            assert_eq!(got, expected, "{status} {answer}: {body}");
        }
        assert_eq!(stack.fake.seen().len(), 1);
    }
}

/// A token of its own for every case, so that no remembered decision is used.
fn uuid_like(answer: &Value, status: u16) -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:x}", RandomState::new().hash_one((answer.to_string(), status)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pdp_that_comes_back_is_asked_again() {
    for stack in Stack::both().await {
        let urls = stack.test.engines.client.urls().clone();
        let alive = urls.get(Service::Auth).unwrap();
        urls.set(Service::Auth, dead_url().await);
        assert_eq!(stack.get("/device").await, 503);
        urls.set(Service::Auth, alive);
        eventually("the PDP answers again", async || (stack.get("/device").await == 200).then_some(())).await;
    }
}
