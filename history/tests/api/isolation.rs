//! Another tenant's device does not exist.

use common::testing::fresh_tenant;

use crate::{base_ms, both};

#[tokio::test]
async fn another_tenants_device_is_not_found() {
    for api in both().await {
        api.store("d1", "t", base_ms(), &["1"]).await;
        api.store("known", "t", base_ms(), &["1"]).await;
        let other = fresh_tenant();
        for path in [
            "/device/d1/history?attr=t",
            "/device/d1/history?attr=t,h",
            "/device/d1/history",
            "/device/known/history",
            "/device/known/history?attr=t",
            "/device/known/history/?attr=t,model",
        ] {
            let response = api.request_of(&other, path).send().await.unwrap();
            assert_eq!(response.status(), 404, "{path}");
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(body["title"], "Device not found", "{path}");
        }
        assert_eq!(api.values("/device/d1/history?attr=t").await, "1");
    }
}
