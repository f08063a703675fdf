//! The authority of the platform.

use common::{
    engine::{SqlEngine, sql::PostgresSettings},
    testing::fresh_tenant,
};
use openssl::x509::X509PurposeId;
use serde_json::json;

use crate::{
    csr,
    stack::{CERTIFICATES, Stack, certificate, config},
    trust::{fingerprint, is_trusted, parse},
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
        let name: Vec<String> =
            certificate.subject_name().entries().map(|entry| entry.data().to_string().unwrap()).collect();
        assert_eq!(name, ["X509 Identity CA", "Certificate Issuer", "dojot IoT Platform"]);
        assert_eq!(body["certificateFingerprint"], fingerprint(pem));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_share_one_authority() {
    for mut stack in Stack::engines().await {
        let tenant = fresh_tenant();
        let (first, second) = tokio::join!(stack.start_with(config()), stack.start_with(config()));
        stack.ready(&first).await;
        stack.ready(&second).await;
        stack.base = first;
        let ca = stack.ca(&tenant).await;
        let (issued, _) = stack.issue(&tenant, None).await;
        stack.base = second;
        assert_eq!(stack.ca(&tenant).await, ca);
        let (_, pem) = stack.issue(&tenant, None).await;
        assert!(is_trusted(&ca, &pem, X509PurposeId::SSL_CLIENT, None));
        let path = certificate(&issued);
        assert_eq!(stack.get(&path, &tenant).await.0, 200);
        // A restart finds the same one.
        stack.base = stack.start().await;
        assert_eq!(stack.ca(&tenant).await, ca);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_the_answer_is_503() {
    for mut stack in Stack::engines().await {
        // Nobody listens there, so the authority can be neither loaded nor stored.
        let url = "postgres://nobody@127.0.0.1:1/nothing".into();
        stack.test.engines.sql = SqlEngine::Postgres(PostgresSettings { url, max_connections: 1 });
        stack.base = stack.start_with(config()).await;
        let tenant = fresh_tenant();
        for path in ["/api/v1/ca", "/api/v1/ca/crl", CERTIFICATES] {
            let (status, body) = stack.get(path, &tenant).await;
            assert_eq!((status, &body["error"]), (503, &json!("Service Unavailable")), "{path}: {body}");
        }
        let body = json!({ "csr": csr::for_device("a") });
        assert_eq!(stack.post(&tenant, body).await.0, 503);
        assert!(!stack.test.engines.readiness.is_ready());
        stack.end().await;
    }
}
