//! What only our own services ask for.

use common::testing::{client, fresh_tenant};
use openssl::x509::X509PurposeId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    csr::{self, Csr},
    stack::{Stack, answer},
    trust::{fingerprint, is_trusted},
};

fn server_certificate(names: &[&str]) -> Value {
    json!({ "csr": csr::for_device("listener"), "hostnames": names })
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_endpoints_do_not_exist_for_others() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, _) = stack.issue(&tenant, Some("a1b2c3")).await;
        for (method, path, body) in [
            (Method::POST, "/server-certificates".to_owned(), server_certificate(&["mqtt.example.com"])),
            (Method::GET, format!("/certificates/{fingerprint}"), Value::Null),
            (Method::GET, "/ca-bundle".to_owned(), Value::Null),
        ] {
            let path = format!("/internal/api/v1{path}");
            let not_found = (404, json!({ "error": "Not Found" }));
            assert_eq!(stack.send(method.clone(), &path, &tenant, body.clone()).await, not_found, "{path}");
            let without_caller = client().request(method, format!("{}{path}", stack.base)).json(&body);
            assert_eq!(answer(without_caller).await, not_found, "{path}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_gets_a_certificate_for_its_names() {
    for stack in Stack::both().await {
        let body = server_certificate(&["mqtt.example.com", "10.1.2.3"]);
        let (status, answer) = stack.internal(Method::POST, "/server-certificates", body).await;
        assert_eq!(status, 201, "{answer}");
        let (pem, ca) = (answer["certificatePem"].as_str().unwrap(), answer["caPem"].as_str().unwrap());
        for name in ["mqtt.example.com", "10.1.2.3"] {
            assert!(is_trusted(ca, pem, X509PurposeId::SSL_SERVER, Some(name)), "{name}");
        }
        assert!(!is_trusted(ca, pem, X509PurposeId::SSL_SERVER, Some("listener")));
        let (status, bundle) = stack.internal(Method::GET, "/ca-bundle", Value::Null).await;
        assert_eq!((status, &bundle["pem"]), (200, &json!(ca)));
        // It is nobody's device and in nobody's list.
        assert_eq!(stack.owner(&fingerprint(pem)).await, None);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_cannot_have_the_names_of_listeners() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let body = server_certificate(&["MQTT.Example.com", "10.1.2.3"]);
        assert_eq!(stack.internal(Method::POST, "/server-certificates", body).await.0, 201);
        let key = csr::p256();
        let named =
            |names: &[&str], addresses: &[&str]| Csr::new(&[("CN", "a")]).names(names, addresses).pem(&key);
        for (csr, name) in [
            (named(&["free.example.org", "mqtt.example.com"], &[]), "mqtt.example.com"),
            (named(&["mqtt.EXAMPLE.com."], &[]), "mqtt.example.com"),
            (named(&["*.example.com"], &[]), "*.example.com"),
            (named(&["10.1.2.3"], &[]), "10.1.2.3"),
            (named(&[], &["10.1.2.3"]), "10.1.2.3"),
            (named(&[], &["::ffff:10.1.2.3"]), "10.1.2.3"),
            (csr::for_device("mqtt.example.com"), "mqtt.example.com"),
            (csr::for_device("listener"), "listener"),
        ] {
            let text = format!("The name '{name}' is used by the platform itself.");
            assert_eq!(stack.post(&tenant, json!({ "csr": csr })).await, (400, json!({ "error": text })));
        }
        for csr in [named(&["http.example.com"], &["10.1.2.4"]), csr::for_device("a1b2c3")] {
            assert_eq!(stack.post(&tenant, json!({ "csr": csr })).await.0, 201);
        }
        // The listener itself renews its certificate.
        let body = server_certificate(&["mqtt.example.com"]);
        assert_eq!(stack.internal(Method::POST, "/server-certificates", body).await.0, 201);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_internal_requests_are_refused() {
    for stack in Stack::both().await {
        for body in [
            json!({}),
            json!({ "csr": "garbage" }),
            json!({ "csr": csr::for_device("a"), "hostnames": "a" }),
            server_certificate(&[""]),
            server_certificate(&["a b"]),
            server_certificate(&["a\u{0}"]),
        ] {
            let (status, answer) = stack.internal(Method::POST, "/server-certificates", body).await;
            assert_eq!(status, 400, "{answer}");
        }
        let (status, _) = stack.internal(Method::GET, "/certificates/x", Value::Null).await;
        assert_eq!(status, 400);
        stack.end().await;
    }
}
