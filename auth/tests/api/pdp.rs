//! The policy decision point (dojot-api.md 2.7), and tokens that it must not accept.

use auth::{Config, Server};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use common::testing::{client, eventually, fresh_tenant};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openssl::rsa::Rsa;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{ADMIN_PASSWORD, Stack, admin, answer, config, fresh_name, gateway};

#[tokio::test(flavor = "multi_thread")]
async fn decisions_follow_the_groups() {
    for stack in Stack::both(&config()).await {
        let (tenant, name) = (fresh_tenant(), fresh_name());
        let (user, password) = stack.user(&tenant, &name, json!("user")).await;
        let token = stack.token(&name, &password).await;
        let administrator = stack.token("admin", ADMIN_PASSWORD).await;
        let cases = [
            ("GET", "/device/", "permit"),
            ("DELETE", "/device/a1b2/", "permit"),
            ("POST", "/template/", "permit"),
            ("GET", "/history/device/a1b2/history/", "permit"),
            ("DELETE", "/history/device/a1b2/history/", "deny"),
            ("GETX", "/history/device/a1b2/history/", "deny"),
            ("GET", "/stream/socketio/", "permit"),
            ("GET", "/stream/topic/device-data/", "deny"),
            ("POST", "/x509/v1/certificates/", "permit"),
            ("GET", "/auth/user/", "deny"),
            ("POST", "/auth/pap/permission/", "deny"),
            ("GET", "/kafka-ws/v1/ticket/", "deny"),
        ];
        for (action, resource, expected) in cases {
            let (status, body) = stack.decide(&token, action, resource).await;
            assert_eq!((status, &body["decision"]), (200, &json!(expected)), "{action} {resource}");
            let (status, body) = stack.decide(&administrator, action, resource).await;
            assert_eq!((status, &body["decision"]), (200, &json!("permit")), "{action} {resource}");
        }
        let (_, body) = stack.decide(&token, "GET", "/device/").await;
        let expires = body["expires"].as_i64().unwrap();
        let expected = json!({"decision": "permit", "status": "ok", "tenant": tenant, "username": name,
                              "userid": user.user_id, "expires": expires, "generation": 2});
        assert_eq!(body, expected);
        assert!(expires > stack.test.engines.clock.now_s() + 28_000);

        // A user in no group may nothing.
        let outsider = fresh_name();
        let (_, password) = stack.user(&tenant, &outsider, json!("nope")).await;
        let token = stack.token(&outsider, &password).await;
        assert_eq!(stack.decide(&token, "GET", "/device/").await.1["decision"], "deny");
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_must_be_complete_and_from_a_service() {
    for stack in Stack::both(&config()).await {
        let token = stack.token("admin", ADMIN_PASSWORD).await;
        let good = json!({"jwt": token, "action": "GET", "resource": "/device/"});
        let cases = [
            ("action", Value::Null, "Missing action"),
            ("action", json!(""), "Missing action"),
            ("jwt", Value::Null, "Missing JWT"),
            ("jwt", json!(1), "Missing JWT"),
            ("resource", Value::Null, "Missing resource"),
        ];
        for (key, value, message) in cases {
            let mut body = good.clone();
            body[key] = value;
            let refused = (400, json!({"message": message, "status": 400}));
            assert_eq!(stack.post("/pdp", &gateway(), body).await, refused);
        }
        assert_eq!(stack.post("/pdp", &gateway(), json!(["x"])).await.0, 400);
        assert_eq!(stack.post("/pdp/", &gateway(), good.clone()).await.0, 200);
        // To everybody else it does not exist.
        assert_eq!(stack.post("/pdp", &admin(), good.clone()).await.0, 404);
        let anonymous = client().post(format!("{}/pdp", stack.base)).json(&good).send().await.unwrap();
        assert_eq!(answer(anonymous).await, (404, json!({"message": "Not Found", "status": 404})));
        stack.end().await;
    }
}

/// A token made of parts, signed or not.
fn forge(header: &Value, claims: &Value, signature: &str) -> String {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of forgeries is read from top to bottom")]
async fn forged_tokens_are_refused() {
    for stack in Stack::both(&config()).await {
        let token = stack.token("admin", ADMIN_PASSWORD).await;
        let name = fresh_name();
        let (_, password) = stack.user(&fresh_tenant(), &name, json!("user")).await;
        let other = stack.token(&name, &password).await;
        let parts: Vec<&str> = token.split('.').collect();
        let other_parts: Vec<&str> = other.split('.').collect();
        let read = |part: &str| -> Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let (header, claims) = (read(parts[0]), read(parts[1]));
        let kid = header["kid"].as_str().unwrap().to_owned();
        let with = |key: &str, value: Value| {
            let mut header = header.clone();
            header[key] = value;
            header
        };

        // The keys that an attacker knows or makes.
        let (_, jwks) =
            answer(client().get(format!("{}/.well-known/jwks.json", stack.base)).send().await.unwrap()).await;
        let component = |name: &str| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
            openssl::bn::BigNum::from_slice(&bytes).unwrap()
        };
        let public = Rsa::from_public_components(component("n"), component("e")).unwrap();
        let own = Rsa::generate(2048).unwrap();
        let own_key = EncodingKey::from_rsa_der(&own.private_key_to_der().unwrap());
        let own_jwk = json!({"kty": "RSA", "alg": "RS256", "kid": kid,
                             "n": BASE64_URL_SAFE_NO_PAD.encode(own.n().to_vec()),
                             "e": BASE64_URL_SAFE_NO_PAD.encode(own.e().to_vec())});
        let algorithm = |algorithm, kid: &str| {
            let mut header = Header::new(algorithm);
            header.kid = Some(kid.to_owned());
            header
        };
        let hmac = |secret: &[u8]| {
            signed(&algorithm(Algorithm::HS256, &kid), &claims, &EncodingKey::from_secret(secret))
        };
        let mut superuser = read(other_parts[1]);
        superuser["userid"] = json!(1);
        let mut with_jwk = algorithm(Algorithm::RS256, &kid);
        with_jwk.jwk = Some(serde_json::from_value(own_jwk.clone()).unwrap());
        let mut with_jku = algorithm(Algorithm::RS256, &kid);
        with_jku.jku = Some("http://127.0.0.1:1/jwks.json".to_owned());
        let mut last = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        *last.last_mut().unwrap() ^= 1;
        let flipped = BASE64_URL_SAFE_NO_PAD.encode(last);

        let forgeries = [
            ("nothing but dots", "..".to_owned()),
            ("rubbish", "rubbish".to_owned()),
            ("two parts", format!("{}.{}", parts[0], parts[1])),
            ("four parts", format!("{token}.{}", parts[2])),
            ("a space", format!("{token} ")),
            ("Bearer", format!("Bearer {token}")),
            ("no signature", format!("{}.{}.", parts[0], parts[1])),
            ("no claims", format!("{}..{}", parts[0], parts[2])),
            ("no header", format!(".{}.{}", parts[1], parts[2])),
            ("a changed bit", format!("{}.{}.{flipped}", parts[0], parts[1])),
            ("a short signature", token[..token.len() - 4].to_owned()),
            ("a long signature", format!("{token}AAAA")),
            ("padding", format!("{token}==")),
            ("a signature of another token", format!("{}.{}.{}", parts[0], parts[1], other_parts[2])),
            ("claims of another token", format!("{}.{}.{}", other_parts[0], parts[1], other_parts[2])),
            ("another user id", forge(&header, &superuser, other_parts[2])),
            ("alg none", forge(&with("alg", json!("none")), &claims, "")),
            ("alg None", forge(&with("alg", json!("None")), &claims, "")),
            ("alg none with a signature", forge(&with("alg", json!("nOnE")), &claims, parts[2])),
            ("no alg", forge(&json!({"typ": "JWT", "kid": kid}), &claims, parts[2])),
            ("alg null", forge(&with("alg", Value::Null), &claims, parts[2])),
            ("alg a list", forge(&with("alg", json!(["RS256"])), &claims, parts[2])),
            ("HS256 with the public key as PEM", hmac(&public.public_key_to_pem().unwrap())),
            ("HS256 with the public key as PKCS 1", hmac(&public.public_key_to_pem_pkcs1().unwrap())),
            ("HS256 with the public key as DER", hmac(&public.public_key_to_der().unwrap())),
            ("HS256 with the modulus", hmac(&public.n().to_vec())),
            ("HS256 with an empty secret", hmac(b"")),
            ("HS256 with dojot's secret", hmac(b"secret")),
            ("another key under our name", signed(&algorithm(Algorithm::RS256, &kid), &claims, &own_key)),
            ("another key under its name", signed(&algorithm(Algorithm::RS256, "mine"), &claims, &own_key)),
            ("another key without a name", signed(&Header::new(Algorithm::RS256), &claims, &own_key)),
            ("RS512", signed(&algorithm(Algorithm::RS512, &kid), &claims, &own_key)),
            ("PS256", signed(&algorithm(Algorithm::PS256, &kid), &claims, &own_key)),
            ("an embedded key", signed(&with_jwk, &claims, &own_key)),
            ("a linked key", signed(&with_jku, &claims, &own_key)),
            ("a path as kid", signed(&algorithm(Algorithm::RS256, "../../../dev/null"), &claims, &own_key)),
            ("SQL as kid", signed(&algorithm(Algorithm::RS256, "' OR '1'='1"), &claims, &own_key)),
            ("an empty kid", signed(&algorithm(Algorithm::RS256, ""), &claims, &own_key)),
            ("a kid that is a number", forge(&with("kid", json!(1)), &claims, parts[2])),
            ("critical extensions", forge(&with("crit", json!(["exp"])), &claims, parts[2])),
            ("a changed header", forge(&with("typ", json!("at+jwt")), &claims, parts[2])),
            (
                "dojot's internal token",
                format!(
                    "{}.{}.{}",
                    BASE64_STANDARD.encode("model"),
                    BASE64_STANDARD.encode(r#"{"username": "device-manager", "service": "admin"}"#),
                    BASE64_STANDARD.encode("signature")
                ),
            ),
            ("a huge token", format!("{}.{}.{}", parts[0], "A".repeat(500_000), parts[2])),
        ];
        for (what, forged) in forgeries {
            let (status, body) = stack.decide(&forged, "GET", "/device/").await;
            assert_eq!((status, body.get("decision")), (401, None), "{what}: {body}");
        }
        let messages = [
            ("rubbish", "Bad token; invalid JSON".to_owned()),
            (&forge(&with("alg", json!("HS256")), &claims, ""), "Invalid algorithm".to_owned()),
            (&forge(&header, &json!({}), ""), "No mandatory 'iss' in claims".to_owned()),
            (&forge(&header, &claims, ""), "Invalid signature".to_owned()),
        ];
        for (token, message) in messages {
            let refused = (401, json!({"message": message, "status": 401}));
            assert_eq!(stack.decide(token, "GET", "/device/").await, refused);
        }
        // The genuine ones are good after all of that.
        for token in [&token, &other] {
            assert_eq!(stack.decide(token, "GET", "/device/").await.0, 200);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_with_their_time() {
    for stack in Stack::both(&Config { token_lifetime_s: 2, ..config() }).await {
        let token = stack.token("admin", ADMIN_PASSWORD).await;
        let expired = (401, json!({"message": "token expired", "status": 401}));
        eventually("the token expires", || async {
            let answer = stack.decide(&token, "GET", "/device/").await;
            assert!(answer.0 == 200 || answer == expired, "{answer:?}");
            (answer == expired).then_some(())
        })
        .await;
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_with_their_user_at_every_instance() {
    // So long that only the announcement can be the reason.
    let config = Config { access_cache_s: 3600, ..config() };
    for stack in Stack::both(&config).await {
        let second = Server::bind(config.clone(), stack.test.engines.clone()).await.unwrap();
        let second = stack.run(second).await;
        let (from, to) = (fresh_tenant(), fresh_tenant());
        let (mover, mover_password) = stack.user(&from, &fresh_name(), json!("user")).await;
        let (leaver, leaver_password) = stack.user(&from, &fresh_name(), json!("user")).await;
        let tokens = [
            stack.token(&mover.user, &mover_password).await,
            stack.token(&leaver.user, &leaver_password).await,
        ];
        for token in &tokens {
            for base in [&stack.base, &second] {
                assert_eq!(stack.decide_at(base, token, "GET", "/device/").await.0, 200);
            }
        }
        let change = json!({"service": to, "email": "m@example.com", "name": "N"});
        assert_eq!(stack.put(&format!("/user/{}", mover.user), &admin(), change).await.0, 200);
        assert_eq!(stack.delete(&format!("/user/{}", leaver.user), &admin()).await.0, 200);
        let revoked = (401, json!({"message": "No credentials found for given 'iss'", "status": 401}));
        for token in &tokens {
            assert_eq!(stack.decide(token, "GET", "/device/").await, revoked, "at once where it happened");
            let question = json!({"jwt": token, "action": "GET", "resource": "/device/", "fresh": true});
            let fresh = stack.send_to(&second, Method::POST, "/pdp", &gateway(), question).await;
            assert_eq!(fresh, revoked, "at once at the other instance for those who ask for it");
            eventually("the other instance hears of it", || async {
                let answer = stack.decide_at(&second, token, "GET", "/device/").await;
                assert!(answer.0 == 200 || answer == revoked, "{answer:?}");
                (answer == revoked).then_some(())
            })
            .await;
        }
        // The mover logs in again, into the new tenant.
        let token = stack.token(&mover.user, &mover_password).await;
        let (status, body) = stack.decide(&token, "GET", "/device/").await;
        assert_eq!((status, &body["tenant"]), (200, &json!(to)));
        let gone = stack.log_in(&json!({"username": leaver.user, "passwd": leaver_password})).await;
        assert_eq!(gone.0, 401);
        // A change of name or address ends nothing.
        let change = json!({"service": to, "email": "n@example.com", "name": "M"});
        assert_eq!(stack.put(&format!("/user/{}", mover.user), &admin(), change).await.0, 200);
        assert_eq!(stack.decide(&token, "GET", "/device/").await.0, 200);
        stack.end().await;
    }
}
