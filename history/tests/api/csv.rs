//! CSV.

use crate::{base_ms, both, ts};

#[tokio::test]
async fn csv_is_answered_to_those_who_accept_no_json() {
    for api in both().await {
        let base = base_ms();
        let mut first = api.sample("d1", "t", base, "99");
        first.metadata = r#"{"protocol":"mqtt"}"#.to_owned();
        let second = api.sample("d1", "t", base + 1000, "0.5");
        let third = api.sample("d1", "h", base, "\"a \\\"b\\\"\"");
        api.test.engines.history.insert(&[first, second, third]).await.unwrap();
        let csv = async |path: &str, accept: &str| {
            let response = api.request(path).header("accept", accept).send().await.unwrap();
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            (response.status().as_u16(), content_type, response.text().await.unwrap())
        };
        let (status, content_type, text) = csv("/device/d1/history?attr=h,t", "text/csv").await;
        assert_eq!((status, content_type.as_str()), (200, "text/csv; charset=UTF-8"));
        let expected = format!(
            "\"attr\",\"value\",\"device_id\",\"ts\",\"metadata.protocol\"\n\
             \"h\",\"a \"\"b\"\"\",\"d1\",\"{first}\",\n\
             \"t\",0.5,\"d1\",\"{second}\",\n\
             \"t\",99,\"d1\",\"{first}\",\"mqtt\"\n",
            first = ts(base),
            second = ts(base + 1000),
        );
        assert_eq!(text, expected);
        let (status, _, text) = csv("/device/d1/history?attr=x,y", "text/csv").await;
        assert_eq!((status, text.as_str()), (200, "\"attr\",\"value\",\"device_id\",\"ts\"\n"));
        assert_eq!(csv("/device/d1/history?attr=x", "text/csv").await.0, 404);
        let (_, content_type, _) = csv("/device/d1/history?attr=t", "text/csv, application/json").await;
        assert_eq!(content_type, "application/json; charset=UTF-8");
    }
}
