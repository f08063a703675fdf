//! Pages, fields and filters (dojot-connectors.md 2.7, 11.2).

use common::{testing::fresh_tenant, wire::Tenant};
use serde_json::{Value, json};

use crate::stack::{CERTIFICATES, Stack, certificate};

async fn list(stack: &Stack, tenant: &Tenant, query: &str) -> Value {
    let (status, body) = stack.get(&format!("{CERTIFICATES}?{query}"), tenant).await;
    assert_eq!(status, 200, "{query}: {body}");
    body
}

fn fingerprints(list: &Value) -> Vec<&str> {
    let found = list["certificates"].as_array().unwrap();
    found.iter().map(|record| record["fingerprint"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_miss_nothing() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let mut issued = Vec::new();
        for _ in 0..27 {
            issued.push(stack.issue(&tenant, None).await.0);
        }
        let first = list(&stack, &tenant, "").await;
        assert_eq!(fingerprints(&first).len(), 25);
        let expected = json!({
            "previous": null,
            "current": { "number": 1, "url": "/x509/v1/certificates?limit=25&page=1" },
            "next": { "number": 2, "url": "/x509/v1/certificates?limit=25&page=2" },
            "totalItems": 27,
            "totalPages": 2,
            "limitPerPage": 25,
        });
        assert_eq!(first["paging"], expected);
        let mut seen = Vec::new();
        let mut times = Vec::new();
        for page in 1..=3 {
            let page = list(&stack, &tenant, &format!("limit=10&page={page}")).await;
            seen.extend(fingerprints(&page).iter().map(|fingerprint| (*fingerprint).to_owned()));
            let records = page["certificates"].as_array().unwrap();
            times.extend(records.iter().map(|record| record["createdAt"].as_str().unwrap().to_owned()));
        }
        assert!(times.is_sorted(), "the oldest come first");
        seen.sort();
        issued.sort();
        assert_eq!(seen, issued);
        let beyond = list(&stack, &tenant, "limit=10&page=4").await;
        assert_eq!((&beyond["certificates"], &beyond["paging"]["next"]), (&json!([]), &json!(null)));
        assert_eq!(list(&stack, &tenant, "limit=1000").await["paging"]["limitPerPage"], 250);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_choose_members() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, _) = stack.issue(&tenant, Some("a1b2c3")).await;
        let expected = json!({ "fingerprint": fingerprint, "belongsTo": { "device": "a1b2c3" } });
        let query = "fields=fingerprint,belongsTo.device";
        let (status, one) = stack.get(&format!("{}?{query}", certificate(&fingerprint)), &tenant).await;
        assert_eq!((status, &one), (200, &expected));
        assert_eq!(list(&stack, &tenant, query).await["certificates"], json!([expected]));
        for path in [CERTIFICATES.to_owned(), certificate(&fingerprint)] {
            let (status, body) = stack.get(&format!("{path}?fields=pem,serial"), &tenant).await;
            assert_eq!(status, 400);
            let text = body["error"].as_str().unwrap();
            assert!(text.starts_with("The fields provided are not valid: [serial]."), "{text}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_the_same_on_every_engine() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        let mut issued = Vec::new();
        for device in ["000123", "12e4", "Abc_1", "abc%1"] {
            let device = (!device.contains('%')).then_some(device);
            if let Some(device) = device {
                stack.others.add_device(&tenant, device);
            }
            issued.push(stack.issue(&tenant, device).await.0);
        }
        let lower = issued[0].replace(':', "").to_lowercase();
        let end = &issued[1][80..];
        for (query, expected) in [
            ("belongsTo.device=000123".to_owned(), &[0][..]),
            ("belongsTo.device=123".to_owned(), &[]),
            ("belongsTo.device=12e4".to_owned(), &[1]),
            ("belongsTo.device=120000".to_owned(), &[]),
            ("belongsTo.device=!12e4".to_owned(), &[0, 2, 3]),
            ("belongsTo.device=^Abc".to_owned(), &[2]),
            ("belongsTo.device=^abc".to_owned(), &[]),
            ("belongsTo.device=$4".to_owned(), &[1]),
            ("belongsTo.device=$xxxxxxxx12e4".to_owned(), &[]),
            ("belongsTo.device=~c_".to_owned(), &[2]),
            ("belongsTo.device=~%25".to_owned(), &[]),
            ("belongsTo.device=~123".to_owned(), &[0]),
            ("belongsTo.device=!".to_owned(), &[3]),
            ("keyVal=belongsTo.device=null".to_owned(), &[3]),
            ("keyVal=belongsTo.device|12e4".to_owned(), &[1]),
            (format!("fingerprint={lower}"), &[0]),
            (format!("keyVal=fingerprint:{lower},belongsTo.device:000123"), &[0]),
            (format!("keyVal=fingerprint:{lower},belongsTo.device:12e4"), &[]),
            (format!("fingerprint=${end}"), &[1]),
            ("subjectDN=CN=12e4, O=dojot IoT Platform".to_owned(), &[1]),
            ("subjectDN=~nobody".to_owned(), &[3]),
            (format!("tenant={tenant}"), &[0, 1, 2, 3]),
            ("tenant=admin".to_owned(), &[]),
            ("issuedByDojotPki=true".to_owned(), &[0, 1, 2, 3]),
            ("issuedByDojotPki=false".to_owned(), &[]),
            ("autoRegistered=true".to_owned(), &[]),
            ("caFingerprint=!".to_owned(), &[0, 1, 2, 3]),
            ("caFingerprint=AA".to_owned(), &[]),
            ("validity.notAfter=>2020-01-01T00:00:00Z".to_owned(), &[0, 1, 2, 3]),
            ("createdAt=<2020-01-01T00:00:00Z".to_owned(), &[]),
            ("createdAt=!".to_owned(), &[]),
            ("unknown=x".to_owned(), &[0, 1, 2, 3]),
        ] {
            let found = list(&stack, &tenant, &query).await;
            let mut found_fingerprints = fingerprints(&found);
            found_fingerprints.sort_unstable();
            let mut expected: Vec<&str> =
                expected.iter().map(|index: &usize| issued[*index].as_str()).collect();
            expected.sort_unstable();
            assert_eq!(found_fingerprints, expected, "{query} on {:?}", stack.test);
            assert_eq!(found["paging"]["totalItems"], expected.len(), "{query}");
        }
        stack.end().await;
    }
}
