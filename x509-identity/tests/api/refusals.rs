//! Bad input: the contract's error, never a 5xx.

use common::testing::{answer_to_large, fresh_tenant, user_of};
use openssl::{hash::MessageDigest, nid::Nid, pkey::PKey};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    csr::{self, Csr},
    stack::{CERTIFICATES, Stack, certificate, read},
};

const SCHEMA: &str = "Input data schema validation failure.";
const UNREADABLE: &str = "Can not parse ASN1 data structure from binary data";

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_certified_are_refused_with_the_reason() {
    let key = csr::p256();
    let der = Csr::new(&[("CN", "a")]).der(&key);
    let mut broken = der.clone();
    *broken.last_mut().unwrap() ^= 1;
    let csr = || Csr::new(&[("CN", "a")]);
    let edwards = PKey::generate_ed25519().unwrap();
    let refused = [
        (csr().pem(&csr::rsa(1024)), "The RSA public key length less than 2048 bits is not supported."),
        (csr().pem(&csr::rsa_with(3)), "The RSA public key exponent less than 65537 is not supported."),
        (
            csr().pem(&csr::ec(Nid::SECP256K1)),
            "The elliptical curve used in the ECDSA public key algorithm is not supported. (Use the NIST-recommended curves: P-256, P-384 or P-521)",
        ),
        (
            csr().digest(MessageDigest::null()).pem(&edwards),
            "The public key algorithm must be RSA or ECDSA. The key algorithm with OID=1.3.101.112 is not supported",
        ),
        (
            csr::pem("CERTIFICATE REQUEST", &broken),
            "The signature of the certificate signing request is not valid.",
        ),
        (csr().stolen(&key, &csr::p256()), "The signature of the certificate signing request is not valid."),
        ("garbage".to_owned(), UNREADABLE),
        (String::new(), UNREADABLE),
        (csr::pem("NEW CERTIFICATE REQUEST", &der), UNREADABLE),
        (csr::pem("CERTIFICATE REQUEST", &[&der[..], b"more"].concat()), UNREADABLE),
        (csr::pem("CERTIFICATE REQUEST", &vec![0x30; 60_000]), UNREADABLE),
        ("\u{0}\u{1}".repeat(1000), UNREADABLE),
    ];
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        for (csr, reason) in &refused {
            let answer = stack.post(&tenant, json!({ "csr": csr })).await;
            assert_eq!(answer, (400, json!({ "error": reason })));
        }
        let (_, list) = stack.get(CERTIFICATES, &tenant).await;
        assert_eq!(list["paging"]["totalItems"], 0);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_is_cleaned() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        for (subject, expected) in [
            (&[("CN", "a"), ("O", "Evil"), ("CN", "b")][..], "CN=a, O=dojot IoT Platform"),
            (&[], "O=dojot IoT Platform"),
            (
                &[("CN", "admin:a1b2c3'; DROP TABLE certificates")],
                "CN=admin:a1b2c3'; DROP TABLE certificates, O=dojot IoT Platform",
            ),
        ] {
            let csr = Csr::new(subject).pem(&csr::p256());
            let (status, body) = stack.post(&tenant, json!({ "csr": csr })).await;
            assert_eq!(status, 201, "{body}");
            let fingerprint = body["certificateFingerprint"].as_str().unwrap();
            let (_, record) = stack.get(&certificate(fingerprint), &tenant).await;
            assert_eq!(record["subjectDN"], expected);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_another_form_fail_the_schema() {
    let csr = csr::for_device("a");
    let bad_certificates = [
        json!([]),
        json!("text"),
        json!(7),
        json!({}),
        json!({ "csr": 7 }),
        json!({ "csr": null }),
        json!({ "csr": [csr] }),
        json!({ "csr": csr, "certificateChain": csr }),
        json!({ "certificateChain": csr }),
        json!({ "csr": csr, "belongsTo": 7 }),
        json!({ "csr": csr, "belongsTo": {} }),
        json!({ "csr": csr, "belongsTo": { "device": 7 } }),
        json!({ "csr": csr, "belongsTo": { "device": "" } }),
        json!({ "csr": csr, "belongsTo": { "device": "a/b" } }),
        json!({ "csr": csr, "belongsTo": { "device": "\u{0}" } }),
        json!({ "csr": csr, "belongsTo": { "device": "a".repeat(65) } }),
    ];
    let bad_owners = [
        json!([]),
        json!({}),
        json!({ "belongsTo": null }),
        json!({ "belongsTo": "a1b2c3" }),
        json!({ "belongsTo": {} }),
        json!({ "belongsTo": { "device": {} } }),
        json!({ "belongsTo": { "device": "../../ca" } }),
    ];
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        let mut answers = Vec::new();
        for body in &bad_certificates {
            answers.push((body, stack.post(&tenant, body.clone()).await));
        }
        for body in &bad_owners {
            answers.push((body, stack.patch(&fingerprint, &tenant, body.clone()).await));
        }
        for (body, (status, answer)) in answers {
            assert_eq!((status, &answer["error"]), (400, &json!(SCHEMA)), "{body}: {answer}");
            assert!(answer["detail"]["schemaErrors"][0].is_string(), "{body}: {answer}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_are_refused() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        let deep = "[".repeat(50_000);
        let large = json!({ "csr": "A".repeat(100 * 1024) }).to_string();
        let huge = json!({ "csr": "A".repeat(1 << 20) }).to_string();
        for (method, path) in
            [(Method::POST, CERTIFICATES.to_owned()), (Method::PATCH, certificate(&fingerprint))]
        {
            for (content_type, body, expected) in [
                ("application/json", "", 400),
                ("application/json", "{", 400),
                ("application/json", "{\"csr\":\"\u{1}\"}", 400),
                ("application/json", deep.as_str(), 400),
                ("text/plain", "{}", 400),
                ("application/x-www-form-urlencoded", "csr=a", 400),
                ("", "{}", 400),
                ("application/json", large.as_str(), 413),
                ("application/json", huge.as_str(), 413),
            ] {
                let response = answer_to_large(|| {
                    let request = stack.request(method.clone(), &path, &user_of(&tenant));
                    request.header(CONTENT_TYPE, content_type).body(body.to_owned())
                });
                let (status, answer) = read(response.await).await;
                let start: String = body.chars().take(40).collect();
                assert_eq!(status, expected, "{content_type} {start}: {answer}");
                assert!(answer["error"].is_string(), "{content_type} {start}: {answer}");
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_makes_the_service_fail() {
    let queries = [
        "page=0",
        "page=-1",
        "page=x",
        "page=9223372036854775807",
        "page=99999999999999999999",
        "limit=0",
        "limit=1e3",
        "page=1&page=2",
        "fields=serial",
        "fields=%00",
        "keyVal=%00",
        "keyVal=serial=1",
        "keyVal=fingerprint",
        "fingerprint=%00",
        "belongsTo.device=%00",
        "subjectDN='; DROP TABLE certificates",
        "subjectDN=%FF",
        "createdAt=x",
        "createdAt=<x",
        "%",
        "&&&=",
        "keyVal=,,,",
        "=",
        "a[]=1",
        "validity.notAfter=>9999-12-31T23:59:59Z",
        "limit=250&fields=pem,,",
        "belongsTo.device=^%25",
    ];
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        for query in queries {
            for path in [CERTIFICATES.to_owned(), certificate(&fingerprint)] {
                let (status, body) = stack.get(&format!("{path}?{query}"), &tenant).await;
                assert!(
                    status == 200 || status == 400 && body["error"].is_string(),
                    "{query}: {status} {body}"
                );
            }
        }
        for (method, path) in [
            (Method::PUT, CERTIFICATES),
            (Method::DELETE, CERTIFICATES),
            (Method::POST, "/api/v1/ca"),
            (Method::DELETE, "/api/v1/ca/crl"),
        ] {
            let answer = stack.send(method, path, &tenant, Value::Null).await;
            assert_eq!(answer, (405, json!({ "error": "Method Not Allowed" })), "{path}");
        }
        for path in ["/", "/api/v1", "/api/v1/certificates/", "/api/v1/trusted-cas", "/api/v1/ca/"] {
            assert_eq!(stack.get(path, &tenant).await, (404, json!({ "error": "Not Found" })), "{path}");
        }
        stack.end().await;
    }
}
