//! Login (dojot-api.md 2.1).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common::testing::{client, fresh_tenant};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::stack::{ADMIN_PASSWORD, Stack, answer, config, fresh_name};

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_contract() {
    for stack in Stack::both(&config()).await {
        let cases = [
            (json!({"username": "admin"}), 400, "missing password"),
            (json!({"passwd": "x"}), 400, "missing username"),
            (json!({}), 400, "missing username"),
            (json!({"username": null, "passwd": null}), 400, "missing username"),
            (json!({"username": "nobody", "passwd": "x"}), 401, "AuthenticationError"),
            (json!({"username": "", "passwd": ""}), 401, "AuthenticationError"),
            (json!({"username": "admin", "passwd": "wrong"}), 403, "AuthorizationError"),
            (json!({"username": "admin", "passwd": ""}), 403, "AuthorizationError"),
            (json!({"username": 1, "passwd": "x"}), 400, "invalid username"),
            (json!({"username": ["admin"], "passwd": "x"}), 400, "invalid username"),
            (json!({"username": "a\0b", "passwd": "x"}), 400, "invalid username"),
            (json!({"username": "admin", "passwd": 1}), 400, "invalid password"),
            (json!(["admin", "admin"]), 400, "missing username"),
            (json!("admin"), 400, "missing username"),
            (json!(null), 400, "missing username"),
            (json!({"username": "admin' OR 1=1 --", "passwd": "x"}), 401, "AuthenticationError"),
        ];
        for (body, status, message) in cases {
            let expected = (status, json!({"message": message, "status": status}));
            assert_eq!(stack.log_in(&body).await, expected, "{body} on {:?}", stack.test);
        }
        for username in ["admin", "ADMIN", "Admin"] {
            stack.token(username, ADMIN_PASSWORD).await;
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_must_be_json_and_say_so() {
    for stack in Stack::both(&config()).await {
        let good = json!({"username": "admin", "passwd": ADMIN_PASSWORD}).to_string();
        let cases = [
            (Some("text/plain"), good.as_str(), 400),
            (Some("application/jsonx"), &good, 400),
            (None, &good, 400),
            (Some("application/json"), "{", 400),
            (Some("application/json"), "", 400),
            (Some("application/json; charset=utf-8"), &good, 200),
            (Some("Application/JSON"), &good, 200),
        ];
        for (mimetype, body, expected) in cases {
            let mut request =
                client().request(Method::POST, format!("{}/", stack.base)).body(body.to_owned());
            if let Some(mimetype) = mimetype {
                request = request.header(CONTENT_TYPE, mimetype);
            }
            let (status, answer) = answer(request.send().await.unwrap()).await;
            assert_eq!(status, expected, "{mimetype:?} {body:?}: {answer}");
            let is_json =
                mimetype.is_some_and(|mimetype| !mimetype.contains("jsonx") && mimetype != "text/plain");
            if !is_json {
                assert_eq!(answer, json!({"message": "invalid mimetype", "status": 400}));
            }
        }
        let nested = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
        let request = client().post(&stack.base).header(CONTENT_TYPE, "application/json").body(nested);
        assert_eq!(request.send().await.unwrap().status(), 400);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_the_nine_claims_in_order() {
    for stack in Stack::both(&config()).await {
        let (tenant, name) = (fresh_tenant(), fresh_name());
        let (user, password) = stack.user(&tenant, &name, json!(["user", "admin"])).await;
        let token = stack.token(&name, &password).await;
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();

        let header: Value = serde_json::from_str(&read(parts[0])).unwrap();
        let kid = header["kid"].as_str().unwrap();
        assert_eq!(read(parts[0]), format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{kid}"}}"#));

        let claims: Value = serde_json::from_str(&read(parts[1])).unwrap();
        let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        let nine = ["iss", "iat", "exp", "profile", "groups", "userid", "jti", "service", "username"];
        assert_eq!(names, nine);
        assert_eq!(claims["iss"].as_str().unwrap().len(), 32);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 28_800);
        assert_eq!(claims["profile"], "user");
        assert_eq!(claims["groups"], json!([1, 2]));
        assert_eq!(claims["userid"], user.user_id);
        let jti = claims["jti"].as_str().unwrap();
        assert!(jti.len() == 32 && jti.bytes().all(|b| b.is_ascii_hexdigit()), "{jti}");
        assert_eq!((&claims["service"], &claims["username"]), (&json!(tenant), &json!(name)));
        assert_ne!(stack.token(&name, &password).await, token);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_password_is_inactive() {
    for stack in Stack::both(&config()).await {
        let name = fresh_name();
        stack.user(&fresh_tenant(), &name, json!("user")).await;
        stack
            .rows("UPDATE users SET password_hash = NULL WHERE username <> 'admin' RETURNING username")
            .await;
        let refused = stack.log_in(&json!({"username": name, "passwd": "x"})).await;
        assert_eq!(refused, (401, json!({"message": "This user is inactive", "status": 401})));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn published_keys_verify_tokens() {
    for stack in Stack::both(&config()).await {
        let token = stack.token("admin", ADMIN_PASSWORD).await;
        for path in ["/.well-known/jwks.json", "/.well-known/jwks.json/"] {
            let response = client().get(format!("{}{path}", stack.base)).send().await.unwrap();
            let (status, keys) = answer(response).await;
            assert_eq!((status, keys["keys"].as_array().unwrap().len()), (200, 1));
            let key = &keys["keys"][0];
            assert_eq!(
                (&key["kty"], &key["use"], &key["alg"]),
                (&json!("RSA"), &json!("sig"), &json!("RS256"))
            );
            assert!(key.get("d").is_none(), "the private part stays here");
            let (n, e) = (key["n"].as_str().unwrap(), key["e"].as_str().unwrap());
            let key = jsonwebtoken::DecodingKey::from_rsa_components(n, e).unwrap();
            let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
            let read = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
            assert_eq!(read.claims["username"], "admin");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_json() {
    for stack in Stack::both(&config()).await {
        let get = |path: &str| client().get(format!("{}{path}", stack.base)).send();
        let (status, body) = answer(get("/revoke").await.unwrap()).await;
        assert_eq!((status, body), (404, json!({"message": "Not Found", "status": 404})));
        let (status, body) = answer(get("/").await.unwrap()).await;
        assert_eq!((status, body), (405, json!({"message": "Method Not Allowed", "status": 405})));
        stack.end().await;
    }
}
