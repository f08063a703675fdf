//! Tokens that are refreshed, and keys that are rotated.

use std::sync::Mutex;

use auth::{Config, Server};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common::testing::{client, eventually, fresh_tenant};
use serde_json::{Value, json};

use crate::stack::{ADMIN_PASSWORD, Stack, admin, answer, config, fresh_name};

async fn refresh(base: &str, authorization: &[String]) -> (u16, Value) {
    let mut request = client().post(format!("{base}/refresh"));
    for value in authorization {
        request = request.header("authorization", value);
    }
    answer(request.send().await.unwrap()).await
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn key_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_refreshed_until_the_session_ends() {
    let short = Config { token_lifetime_s: 6, session_lifetime_s: 11, ..config() };
    for stack in Stack::both(&short).await {
        let name = fresh_name();
        let (_, password) = stack.user(&fresh_tenant(), &name, json!("user")).await;
        let first = stack.token(&name, &password).await;
        let began = claims(&first)["iat"].as_i64().unwrap();
        let latest = Mutex::new((first.clone(), 0));
        // As a dashboard does: whenever there is time, until it is told to log in again.
        let refused = eventually("the session ends", async || {
            let token = latest.lock().unwrap().0.clone();
            let (status, body) = refresh(&stack.base, &[format!("Bearer {token}")]).await;
            if status != 200 {
                return Some((status, body));
            }
            let token = body["jwt"].as_str().unwrap().to_owned();
            let (_, decision) = stack.decide(&token, "GET", "/device/").await;
            // The last ones are good for less than a moment.
            let is_good = decision["decision"] == "permit" || decision["message"] == "token expired";
            assert!(is_good, "{decision}");
            let now = claims(&token);
            assert_eq!((&now["auth_time"], &now["username"]), (&json!(began), &json!(name)));
            let expires = now["exp"].as_i64().unwrap();
            assert!(expires <= began + 11, "no token outlives the session");
            *latest.lock().unwrap() = (token, expires);
            None
        })
        .await;
        assert_eq!(refused.0, 401);
        let message = refused.1["message"].as_str().unwrap();
        assert!(["session expired", "token expired"].contains(&message), "{message}");
        let (last, expired) = latest.into_inner().unwrap();
        assert_eq!(expired, began + 11, "it lasts as long as it may");
        let refused = (401, json!({"message": "token expired", "status": 401}));
        for token in [first, last] {
            assert_eq!(refresh(&stack.base, &[format!("Bearer {token}")]).await, refused);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_token_is_not_refreshed() {
    for stack in Stack::both(&config()).await {
        let name = fresh_name();
        let (user, password) = stack.user(&fresh_tenant(), &name, json!("user")).await;
        let token = stack.token(&name, &password).await;
        let (head, signature) = token.rsplit_once('.').unwrap();
        let bearer = format!("Bearer {token}");
        let cases = [
            (vec![], "Unauthorized"),
            (vec![bearer.clone(), bearer.clone()], "Unauthorized"),
            (vec![format!("Basic {token}")], "Unauthorized"),
            (vec![token.clone()], "Unauthorized"),
            (vec!["Bearer x".to_owned()], "Bad token; invalid JSON"),
            (vec![format!("Bearer {head}.{}", "A".repeat(signature.len()))], "Invalid signature"),
            (vec![format!("Bearer {}", "x".repeat(10_000))], "Bad token; invalid JSON"),
        ];
        for (headers, message) in cases {
            let refused = refresh(&stack.base, &headers).await;
            assert_eq!(refused, (401, json!({"message": message, "status": 401})), "{headers:?}");
        }
        assert_eq!(stack.delete(&format!("/user/{}", user.user_id), &admin()).await.0, 200);
        let refused = refresh(&stack.base, &[bearer]).await;
        let message = "No credentials found for given 'iss'";
        assert_eq!(refused, (401, json!({"message": message, "status": 401})));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_nobody_is_logged_out() {
    for stack in Stack::both(&config()).await {
        let other = Server::bind(config(), stack.test.engines.clone()).await.unwrap();
        let other = stack.run(other).await;
        let old = stack.token("admin", ADMIN_PASSWORD).await;
        let (status, body) = stack.post("/keys", &admin(), json!({})).await;
        assert_eq!(status, 200, "{body}");
        let new = stack.token("admin", ADMIN_PASSWORD).await;
        assert_eq!(body["kid"], key_of(&new));
        assert_ne!(key_of(&old), key_of(&new));
        eventually("the other instance publishes the new key", async || {
            let published = client().get(format!("{other}/.well-known/jwks.json")).send().await.unwrap();
            answer(published).await.1["keys"]
                .as_array()
                .unwrap()
                .iter()
                .any(|key| key["kid"] == key_of(&new))
                .then_some(())
        })
        .await;
        for base in [&stack.base, &other] {
            for token in [&old, &new] {
                // The other instance looks for keys that it does not know once a second.
                eventually("the token is good", async || {
                    let (_, body) = stack.decide_at(base, token, "GET", "/device/").await;
                    (body["decision"] == "permit").then_some(())
                })
                .await;
            }
        }
        let published = client().get(format!("{}/.well-known/jwks.json", stack.base)).send().await.unwrap();
        let (_, published) = answer(published).await;
        let names: Vec<&str> =
            published["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(names, [key_of(&new), key_of(&old)]);
        for _ in 0..14 {
            assert_eq!(stack.post("/keys", &admin(), json!({})).await.0, 200);
        }
        let (status, body) = stack.post("/keys", &admin(), json!({})).await;
        assert_eq!(status, 409, "{body}");
        stack.end().await;
    }
}
