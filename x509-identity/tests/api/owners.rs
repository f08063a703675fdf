//! Whose certificates are (dojot-connectors.md 2.3, 2.4).

use common::testing::fresh_tenant;
use serde_json::{Value, json};

use crate::{
    csr,
    stack::{CERTIFICATES, Stack, certificate, config},
};

fn device(id: &str) -> Value {
    json!({ "belongsTo": { "device": id } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_changes_hands() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        for id in ["a1b2c3", "b2c3d4"] {
            stack.others.add_device(&tenant, id);
        }
        let (fingerprint, _) = stack.issue(&tenant, None).await;
        let shown = || async { stack.get(&certificate(&fingerprint), &tenant).await.1["belongsTo"].clone() };
        assert_eq!(shown().await, json!({ "device": null }));
        assert_eq!(stack.owner(&fingerprint).await, None);
        for id in ["a1b2c3", "b2c3d4", "b2c3d4"] {
            assert_eq!(stack.patch(&fingerprint, &tenant, device(id)).await, (204, Value::Null));
            assert_eq!(shown().await, json!({ "device": id }));
            assert_eq!(stack.owner(&fingerprint).await, Some((tenant.to_string(), id.to_owned())));
        }
        let nobody = json!({ "belongsTo": { "device": null } });
        assert_eq!(stack.patch(&fingerprint, &tenant, nobody).await.0, 204);
        assert_eq!(stack.owner(&fingerprint).await, None);
        assert_eq!(stack.patch(&fingerprint, &tenant, device("a1b2c3")).await.0, 204);
        for _ in 0..2 {
            let path = format!("{}/belongsto", certificate(&fingerprint));
            assert_eq!(stack.delete(&path, &tenant).await, (204, Value::Null));
            assert_eq!(shown().await, json!({ "device": null }));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_cannot_be_are_refused() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, _) = stack.issue(&tenant, Some("a1b2c3")).await;
        for (owner, status, text) in [
            (
                json!({ "device": "c3d4e5" }),
                400,
                format!("Device identifier 'c3d4e5' was not found for tenant '{tenant}'."),
            ),
            (
                json!({ "device": "a1b2c3", "application": "app" }),
                400,
                "The certificate must belong to only one type of owner.".to_owned(),
            ),
            (
                json!({ "application": "app" }),
                403,
                "Operations on certificates for applications are not authorized through this endpoint."
                    .to_owned(),
            ),
        ] {
            let expected = (status, json!({ "error": text }));
            let body = json!({ "csr": csr::for_device("a"), "belongsTo": owner });
            assert_eq!(stack.post(&tenant, body).await, expected);
            assert_eq!(stack.patch(&fingerprint, &tenant, json!({ "belongsTo": owner })).await, expected);
        }
        assert_eq!(stack.owner(&fingerprint).await, Some((tenant.to_string(), "a1b2c3".to_owned())));
        assert_eq!(stack.get(CERTIFICATES, &tenant).await.1["paging"]["totalItems"], 1);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_device_manager_only_owners_cannot_be_set() {
    for stack in Stack::both().await {
        let tenant = fresh_tenant();
        stack.others.add_device(&tenant, "a1b2c3");
        let (fingerprint, _) = stack.issue(&tenant, Some("a1b2c3")).await;
        stack.others.take_device_manager_away(true);
        let body = json!({ "csr": csr::for_device("a"), "belongsTo": { "device": "a1b2c3" } });
        for (status, body) in
            [stack.post(&tenant, body).await, stack.patch(&fingerprint, &tenant, device("a1b2c3")).await]
        {
            let text = "Could not connect to the Device Manager service to validate the device identifier.";
            assert_eq!((status, &body["error"]), (502, &json!(text)), "{body}");
        }
        stack.issue(&tenant, None).await;
        let nobody = json!({ "belongsTo": { "device": null } });
        assert_eq!(stack.patch(&fingerprint, &tenant, nobody).await.0, 204);
        stack.others.take_device_manager_away(false);
        assert_eq!(stack.patch(&fingerprint, &tenant, device("a1b2c3")).await.0, 204);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_need_not_exist_where_the_operator_says_so() {
    for mut stack in Stack::engines().await {
        let mut config = config();
        config.check_device_exists = false;
        stack.base = stack.start_with(config).await;
        stack.ready(&stack.base).await;
        let tenant = fresh_tenant();
        let (fingerprint, _) = stack.issue(&tenant, Some("unknown")).await;
        assert_eq!(stack.owner(&fingerprint).await, Some((tenant.to_string(), "unknown".to_owned())));
        stack.end().await;
    }
}
