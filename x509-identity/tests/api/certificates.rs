//! Issuing, showing and revoking certificates (dojot-connectors.md 2.3, 2.4, 2.8).

use common::{
    testing::{fresh_tenant, user_of},
    wire::Tenant,
};
use openssl::{nid::Nid, x509::X509PurposeId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    csr::{self, Csr},
    stack::{CERTIFICATES, Stack, answer, certificate},
    trust::{is_revoked, is_trusted, parse},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_the_contract_gets_a_trusted_certificate() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let ca = stack.ca(&tenant).await;
        for key in
            [csr::ec(Nid::X9_62_PRIME256V1), csr::ec(Nid::SECP384R1), csr::ec(Nid::SECP521R1), csr::rsa(2048)]
        {
            let csr = Csr::new(&[("CN", "a1b2c3")]).names(&["a1b2c3.example.com"], &[]).pem(&key);
            let (status, body) = stack.post(&tenant, json!({ "csr": csr })).await;
            assert_eq!(status, 201, "{body}");
            let pem = body["certificatePem"].as_str().unwrap();
            assert!(is_trusted(&ca, pem, X509PurposeId::SSL_CLIENT, None));
            assert!(is_trusted(&ca, pem, X509PurposeId::SSL_SERVER, Some("a1b2c3.example.com")));
            assert!(!is_trusted(&ca, pem, X509PurposeId::SSL_SERVER, Some("other.example.com")));
            assert!(parse(pem).public_key().unwrap().public_eq(&key));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_certificate_is_on_record() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, pem) = stack.issue(&tenant, Some("a1b2c3")).await;
        let (status, mut record) = stack.get(&certificate(&fingerprint), &tenant).await;
        assert_eq!(status, 200);
        for (date, about) in [("/createdAt", 0), ("/modifiedAt", 0), ("/validity/notAfter", 365)] {
            let date = record.pointer_mut(date).unwrap().take();
            let date = chrono::DateTime::parse_from_rfc3339(date.as_str().unwrap()).unwrap();
            let difference = (date.to_utc() - stack.test.engines.clock.now()).num_minutes();
            assert!((about * 1440 - 2..=about * 1440).contains(&difference), "{date}");
        }
        record["validity"]["notBefore"].take();
        let expected = json!({
            "fingerprint": fingerprint,
            "pem": pem,
            "subjectDN": "CN=a1b2c3, O=dojot IoT Platform",
            "validity": { "notBefore": null, "notAfter": null },
            "createdAt": null,
            "modifiedAt": null,
            "issuedByDojotPki": true,
            "autoRegistered": false,
            "belongsTo": { "device": "a1b2c3" },
            "tenant": tenant,
        });
        assert_eq!(record, expected);
        assert_eq!(stack.owner(&fingerprint).await, Some((tenant.to_string(), "a1b2c3".to_owned())));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_can_be_spelled_in_many_ways() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        let bare = fingerprint.replace(':', "");
        for spelling in [
            fingerprint.clone(),
            fingerprint.to_lowercase(),
            bare.to_lowercase(),
            bare,
            fingerprint.replace(':', "%3A"),
        ] {
            let (status, record) = stack.get(&certificate(&spelling), &tenant).await;
            assert_eq!((status, &record["fingerprint"]), (200, &json!(fingerprint)), "{spelling}");
        }
        for bad in ["x", &fingerprint[1..], &format!("{fingerprint}:"), "%00", "%FF", &"A".repeat(5000)] {
            for (method, path) in routes_of(bad) {
                let (status, body) = stack.send(method.clone(), &path, &tenant, change()).await;
                assert_eq!(status, 400, "{method} {path}: {body}");
                assert!(body["error"].is_string(), "{body}");
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_another_tenant_is_not_found() {
    for stack in Stack::both().await {
        let (tenant, other) = (fresh_tenant(), fresh_tenant());
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, _) = stack.issue(&tenant, Some("a1b2c3")).await;
        let nowhere = "00".repeat(32);
        for (method, path) in routes_of(&fingerprint) {
            let (status, body) = stack.send(method.clone(), &path, &other, change()).await;
            let filter = json!({ "fingerprint": fingerprint, "tenant": other });
            let text = format!("No records found for the following parameters: {filter}");
            assert_eq!((status, body), (404, json!({ "error": text })), "{method} {path}");
            // What belongs to somebody else looks like what does not exist.
            let path = path.replace(&fingerprint, &nowhere);
            assert_eq!(stack.send(method, &path, &other, change()).await.0, 404);
        }
        let (_, list) = stack.get(CERTIFICATES, &other).await;
        assert_eq!((&list["certificates"], &list["paging"]["totalItems"]), (&json!([]), &json!(0)));
        let path = format!("{CERTIFICATES}?fingerprint={fingerprint}&tenant={tenant}");
        assert_eq!(stack.get(&path, &other).await.1["certificates"], json!([]));
        // The other tenant does not have the device either.
        let body = json!({ "csr": csr::for_device("x"), "belongsTo": { "device": "a1b2c3" } });
        assert_eq!(stack.post(&other, body).await.0, 400);
        assert_eq!(stack.owner(&fingerprint).await, Some((tenant.to_string(), "a1b2c3".to_owned())));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_caller() {
    for stack in Stack::both().await {
        let (fingerprint, _) = stack.issue(&fresh_tenant(), None).await;
        let mut routes = routes_of(&fingerprint).to_vec();
        for path in [CERTIFICATES, "/api/v1/ca", "/api/v1/ca/crl"] {
            routes.push((Method::GET, path.to_owned()));
        }
        routes.push((Method::POST, CERTIFICATES.to_owned()));
        for (method, path) in routes {
            let request = common::testing::client().request(method.clone(), format!("{}{path}", stack.base));
            assert_eq!(answer(request).await, (401, json!({ "error": "Missing JWT token" })), "{path}");
            let request = common::testing::client()
                .request(method, format!("{}{path}", stack.base))
                .header("x-tatami-caller", "e30.AAAA");
            assert_eq!(answer(request).await, (401, json!({ "error": "Invalid JWT token" })), "{path}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_gone_and_on_the_list() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (revoked, revoked_pem) = stack.issue(&tenant, Some("a1b2c3")).await;
        let (kept, kept_pem) = stack.issue(&tenant, None).await;
        let ca = stack.ca(&tenant).await;
        let crl = || async {
            let (status, body) = stack.get("/api/v1/ca/crl", &tenant).await;
            assert_eq!(status, 200, "{body}");
            body["crl"].as_str().unwrap().to_owned()
        };
        assert!(!is_revoked(&ca, &crl().await, &revoked_pem));
        assert_eq!(stack.delete(&certificate(&revoked), &tenant).await, (204, Value::Null));
        let list = crl().await;
        assert!(is_revoked(&ca, &list, &revoked_pem));
        assert!(!is_revoked(&ca, &list, &kept_pem));
        assert_eq!(stack.owner(&revoked).await, None);
        for (method, path) in routes_of(&revoked) {
            assert_eq!(stack.send(method, &path, &tenant, change()).await.0, 404, "{path}");
        }
        assert_eq!(stack.get(&certificate(&kept), &tenant).await.0, 200);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_may_be_certified_again() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let body = json!({ "csr": csr::for_device("a1b2c3") });
        let (first, second) = (stack.post(&tenant, body.clone()).await, stack.post(&tenant, body).await);
        assert_eq!((first.0, second.0), (201, 201));
        assert_ne!(first.1["certificateFingerprint"], second.1["certificateFingerprint"]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_can_be_issued_at_once() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let requests = (0..40).map(|_| async {
            let body = json!({ "csr": csr::for_device("a") });
            answer(stack.request(Method::POST, CERTIFICATES, &user_of(&tenant)).json(&body)).await.0
        });
        let statuses = futures_util::future::join_all(requests).await;
        assert_eq!(statuses, [201; 40]);
        let (_, list) = stack.get(CERTIFICATES, &tenant).await;
        assert_eq!(list["paging"]["totalItems"], 40);
        stack.end().await;
    }
}

/// Every route about one certificate.
fn routes_of(fingerprint: &str) -> [(Method, String); 4] {
    let path = certificate(fingerprint);
    [
        (Method::GET, path.clone()),
        (Method::PATCH, path.clone()),
        (Method::DELETE, format!("{path}/belongsto")),
        (Method::DELETE, path),
    ]
}

fn change() -> Value {
    json!({ "belongsTo": { "device": null } })
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_look_alike_stay_apart() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let longer = Tenant::parse(&format!("{tenant}a")).unwrap();
        let (fingerprint, _) = stack.issue(&longer, None).await;
        assert_eq!(stack.get(&certificate(&fingerprint), &tenant).await.0, 404);
        assert_eq!(stack.get(CERTIFICATES, &tenant).await.1["certificates"], json!([]));
        stack.end().await;
    }
}
