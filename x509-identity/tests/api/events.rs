//! What is announced, and what is heard (dojot-connectors.md 2.8, 2.9).

use common::{
    http::Caller,
    testing::{fresh_tenant, user_of},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    csr,
    stack::{Stack, answer, certificate},
    trust::is_revoked,
};

fn device(id: &str) -> Value {
    json!({ "belongsTo": { "device": id } })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_owner_is_announced_in_order() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        for id in ["a", "b"] {
            stack.others.add_device(&tenant, id);
        }
        let mut events = stack.events(&tenant).await;
        // Certificates that never have an owner are nobody's business.
        let (never_owned, _) = stack.issue(&tenant, None).await;
        let path = format!("{}/belongsto", certificate(&never_owned));
        assert_eq!(stack.delete(&path, &tenant).await.0, 204);
        assert_eq!(stack.delete(&certificate(&never_owned), &tenant).await.0, 204);

        let (fingerprint, pem) = stack.issue(&tenant, Some("a")).await;
        let (key, mut event) = events.next().await;
        assert_eq!(key, format!("{tenant}:a"));
        let (id, time) = (event["metadata"]["msgid"].take(), event["metadata"]["timestamp"].take());
        assert!(id.as_str().unwrap().len() == 36 && time.as_i64().unwrap() > 1_700_000_000_000);
        let expected = json!({
            "metadata": {
                "msgid": null, "timestamp": null, "service": "x509-identity-mgmt", "tenant": tenant,
                "contentType": "application/vnd.dojot.x509-identities+json",
            },
            "data": {
                "eventType": "ownership.create",
                "eventData": {
                    "fingerprint": fingerprint, "certificatePem": pem, "issuedByDojotPki": true,
                    "autoRegistered": false, "belongsTo": { "device": "a" },
                },
            },
        });
        assert_eq!(event, expected);

        for body in [device("a"), device("b"), json!({ "belongsTo": { "device": null } }), device("a")] {
            assert_eq!(stack.patch(&fingerprint, &tenant, body).await.0, 204);
        }
        let path = format!("{}/belongsto", certificate(&fingerprint));
        assert_eq!(stack.delete(&path, &tenant).await.0, 204);
        assert_eq!(stack.delete(&path, &tenant).await.0, 204);
        assert_eq!(stack.patch(&fingerprint, &tenant, device("b")).await.0, 204);
        assert_eq!(stack.delete(&certificate(&fingerprint), &tenant).await.0, 204);
        for (kind, before, after) in [
            ("ownership.update", json!("a"), json!("b")),
            ("ownership.delete", json!("b"), json!(null)),
            ("ownership.create", json!(null), json!("a")),
            ("ownership.delete", json!("a"), json!(null)),
            ("ownership.create", json!(null), json!("b")),
            ("ownership.delete", json!("b"), json!(null)),
        ] {
            assert_eq!(events.next_short().await, (kind.to_owned(), fingerprint.clone(), before, after));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_are_announced_as_one_chain() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        for id in ["a", "b", "c", "d"] {
            stack.others.add_device(&tenant, id);
        }
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        let mut events = stack.events(&tenant).await;
        let path = certificate(&fingerprint);
        let changes = (0..24).map(|number| {
            let body = device(["a", "b", "c", "d"][number % 4]);
            answer(stack.request(Method::PATCH, &path, &user_of(&tenant)).json(&body))
        });
        for (status, body) in futures_util::future::join_all(changes).await {
            assert_eq!(status, 204, "{body}");
        }
        assert_eq!(stack.delete(&path, &tenant).await.0, 204);
        let mut owner = json!(null);
        loop {
            let (kind, _, before, after) = events.next_short().await;
            assert_eq!(before, owner, "each event begins where the one before ended");
            owner = after;
            if kind == "ownership.delete" {
                break;
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_revoked_once() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a");
        let mut events = stack.events(&tenant).await;
        let (fingerprint, _) = stack.issue(&tenant, Some("a")).await;
        let path = certificate(&fingerprint);
        let attempts = (0..6).map(|_| answer(stack.request(Method::DELETE, &path, &user_of(&tenant))));
        let mut statuses: Vec<u16> =
            futures_util::future::join_all(attempts).await.iter().map(|answer| answer.0).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404, 404, 404, 404, 404]);
        let (next, _) = stack.issue(&tenant, Some("a")).await;
        for expected in [
            ("ownership.create", &fingerprint),
            ("ownership.delete", &fingerprint),
            ("ownership.create", &next),
        ] {
            let (kind, about, ..) = events.next_short().await;
            assert_eq!((kind.as_str(), &about), expected);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_loses_its_certificates() {
    for mut stack in Stack::engines().await {
        let (tenant, other) = (fresh_tenant(), fresh_tenant());
        for tenant in [&tenant, &other] {
            stack.others.add_device(tenant, "a");
            stack.others.add_device(tenant, "b");
        }
        stack.base = stack.start().await;
        let mut events = stack.events(&tenant).await;
        let (first, pem) = stack.issue(&tenant, Some("a")).await;
        let (second, _) = stack.issue(&tenant, Some("a")).await;
        let (kept, _) = stack.issue(&tenant, Some("b")).await;
        let (foreign, _) = stack.issue(&other, Some("a")).await;
        for _ in 0..3 {
            assert_eq!(events.next_short().await.0, "ownership.create");
        }
        // What cannot be read is set aside and does not stop the rest; the tenant is that of the topic.
        stack.device_event(&tenant, "garbage").await;
        let create = json!({ "event": "create", "data": { "id": "a" }, "meta": { "service": tenant } });
        stack.device_event(&tenant, create.to_string()).await;
        let remove = json!({ "event": "remove", "data": { "id": "a" }, "meta": { "service": other } });
        stack.device_event(&tenant, remove.to_string()).await;
        let mut unlinked = Vec::new();
        for _ in 0..2 {
            let (kind, fingerprint, before, after) = events.next_short().await;
            assert_eq!((kind.as_str(), before, after), ("ownership.delete", json!("a"), json!(null)));
            unlinked.push(fingerprint);
        }
        unlinked.sort();
        let mut expected = [first.clone(), second];
        expected.sort();
        assert_eq!(unlinked, expected);
        assert_eq!(stack.owner(&first).await, None);
        assert!(stack.owner(&kept).await.is_some());
        assert!(stack.owner(&foreign).await.is_some());
        // It loses its owner, but is not revoked.
        let (_, crl) = stack.get("/api/v1/ca/crl", &tenant).await;
        assert!(!is_revoked(&stack.ca(&tenant).await, crl["crl"].as_str().unwrap(), &pem));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_of_a_removed_tenant_are_revoked() {
    for mut stack in Stack::engines().await {
        let (tenant, other) = (fresh_tenant(), fresh_tenant());
        for tenant in [&tenant, &other] {
            stack.others.add_device(tenant, "a");
        }
        stack.base = stack.start().await;
        let (owned, owned_pem) = stack.issue(&tenant, Some("a")).await;
        let (free, free_pem) = stack.issue(&tenant, None).await;
        let (kept, kept_pem) = stack.issue(&other, Some("a")).await;
        stack.others.neighbours.remove_tenant(&tenant, &["x509-identity"]).await;
        for gone in [&owned, &free] {
            assert_eq!(stack.get(&certificate(gone), &tenant).await.0, 404);
        }
        assert_eq!(stack.owner(&owned).await, None);
        // A request of the former tenant that was on its way leaves nothing behind.
        let body = json!({ "csr": csr::for_device("late"), "belongsTo": { "device": "a" } });
        let ask = async |generation| {
            let late = Caller { generation, ..user_of(&tenant) };
            answer(stack.request(Method::POST, "/api/v1/certificates", &late).json(&body)).await
        };
        assert_eq!(ask(1).await.0, 401);
        let (status, issued) = ask(2).await;
        assert_eq!(status, 201, "{issued}");
        let path = format!("/certificates/{}", issued["certificateFingerprint"].as_str().unwrap());
        let expected = json!({ "tenant": tenant, "device": "a", "generation": 2 });
        assert_eq!(stack.internal(Method::GET, &path, Value::Null).await, (200, expected));
        let ca = stack.ca(&other).await;
        let (_, crl) = stack.get("/api/v1/ca/crl", &other).await;
        let crl = crl["crl"].as_str().unwrap();
        assert!(is_revoked(&ca, crl, &owned_pem) && is_revoked(&ca, crl, &free_pem));
        assert!(!is_revoked(&ca, crl, &kept_pem));
        assert_eq!(stack.owner(&kept).await, Some((other.to_string(), "a".to_owned())));
        stack.end().await;
    }
}
