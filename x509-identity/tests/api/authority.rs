//! The authority of the platform.

use common::testing::fresh_tenant;
use openssl::x509::X509PurposeId;
use serde_json::json;

use crate::{
    stack::{Stack, config},
    trust::{is_trusted, parse},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_the_one_of_the_contract() {
    for stack in Stack::both().await {
        let (status, body) = stack.get("/api/v1/ca", &fresh_tenant()).await;
        assert_eq!(status, 200);
        let pem = body["caPem"].as_str().unwrap();
        let certificate = parse(pem);
        assert!(is_trusted(pem, pem, X509PurposeId::ANY, None));
        assert!(certificate.verify(&certificate.public_key().unwrap()).unwrap());
        assert_eq!(certificate.pathlen(), Some(0));
        let name: Vec<String> = certificate
            .subject_name()
            .entries()
            .map(|entry| entry.data().to_string().unwrap())
            .collect();
        assert_eq!(name, ["X509 Identity CA", "Certificate Issuer", "dojot IoT Platform"]);
        let digest = certificate.digest(openssl::hash::MessageDigest::sha256()).unwrap();
        let fingerprint: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(body["certificateFingerprint"], fingerprint.join(":"));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_share_one_authority() {
    for mut stack in Stack::engines().await {
        let tenant = fresh_tenant();
        let (first, second) = tokio::join!(stack.start_with(config()), stack.start_with(config()));
        stack.ready().await;
        stack.base = first;
        let ca = stack.ca(&tenant).await;
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        stack.base = second;
        assert_eq!(stack.ca(&tenant).await, ca);
        let (_, pem) = stack.issue(&tenant, None).await;
        assert!(is_trusted(&ca, &pem, X509PurposeId::SSL_CLIENT, None));
        let path = crate::stack::certificate(&fingerprint);
        assert_eq!(stack.get(&path, &tenant).await.0, 200);
        // A restart finds the same one.
        stack.base = stack.start().await;
        assert_eq!(stack.ca(&tenant).await, ca);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_there_is_an_authority_the_answer_is_503() {
    for mut stack in Stack::engines().await {
        // 4096 bits take longer than a request.
        stack.base = stack.start_with(x509_identity::Config { ca_key_bits: 4096, ..config() }).await;
        let (status, body) = stack.get("/api/v1/ca", &fresh_tenant()).await;
        assert!(status == 200 || status == 503 && body["error"] == json!("Service Unavailable"), "{body}");
        stack.ready().await;
        assert_eq!(stack.get("/api/v1/ca", &fresh_tenant()).await.0, 200);
        stack.end().await;
    }
}
