//! What is stored, once.

use common::{
    testing::fresh_tenant,
    wire::{DeviceId, Subject, header},
};
use persister::domain::sample;

use crate::platform::both;

const GOOD: &str = r#"{"metadata":{"deviceid":"d1","tenant":"x","timestamp":4102444800123,"q":1.0},"attrs":{"t":23.50,"h":{"a":1}}}"#;

#[tokio::test]
async fn readings_and_actuations_are_stored() {
    for platform in both().await {
        platform.append(&Subject::DEVICE_DATA, "d1", GOOD).await;
        let configure = r#"{"event":"configure","data":{"attrs":{"led":"on"},"id":"d1"},"meta":{"service":"x","timestamp":4102444800000}}"#;
        platform.append(&Subject::DEVICE, "d1", r#"{"event":"create","data":{"id":"d1"},"meta":{}}"#).await;
        platform.append(&Subject::DEVICE, "d1", configure).await;
        let t = &platform.stored("d1", "t", 1).await[0];
        assert_eq!(
            (t.value.as_str(), t.ts_ms, t.metadata.as_str()),
            ("23.50", 4_102_444_800_123, "{\"q\":1.0}")
        );
        assert_eq!(platform.stored("d1", "h", 1).await[0].value, "{\"a\":1}");
        assert_eq!(t.generation, 0);
        platform.append_for(7, &Subject::DEVICE_DATA, "d2", GOOD.replace("d1", "d2")).await;
        assert_eq!(platform.stored("d2", "t", 1).await[0].generation, 7);
        let led = &platform.stored("d1", "led", 1).await[0];
        assert_eq!((led.value.as_str(), led.ts_ms), ("\"on\"", 4_102_444_800_000));
    }
}

#[tokio::test]
async fn a_malformed_record_is_set_aside_and_its_neighbours_are_stored() {
    for platform in both().await {
        let reading = |n: u32| format!(r#"{{"metadata":{{"deviceid":"d1"}},"attrs":{{"t":{n}}}}}"#);
        platform.append(&Subject::DEVICE_DATA, "d1", reading(1)).await;
        platform.append(&Subject::DEVICE_DATA, "d1", r#"{"metadata":{"deviceid":"d1"},"attrs":[1]}"#).await;
        platform.append(&Subject::DEVICE_DATA, "d1", reading(2)).await;
        let samples = platform.stored("d1", "t", 2).await;
        let values: Vec<&str> = samples.iter().map(|sample| sample.value.as_str()).collect();
        assert_eq!(values, ["1", "2"], "{:?}", platform.test);
        let aside = &platform.read(&Subject::DEAD_LETTER, 1).await[0];
        assert_eq!(&aside.value[..], br#"{"metadata":{"deviceid":"d1"},"attrs":[1]}"#);
        let text = |name| String::from_utf8(aside.header(name).unwrap().to_vec()).unwrap();
        assert!(text(header::REASON).starts_with("attrs: "), "{}", text(header::REASON));
        assert!(text(header::SOURCE).starts_with(platform.topic(&Subject::DEVICE_DATA).as_str()));
        assert!(text(header::SOURCE).ends_with("/1"));
    }
}

#[tokio::test]
async fn reading_the_log_again_changes_nothing() {
    for platform in both().await {
        const COUNT: usize = 500;
        for n in 0..COUNT {
            // Half of them without a time of their own.
            let time = if n % 2 == 0 { String::new() } else { ",\"timestamp\":4102444800000".to_owned() };
            let value = format!(r#"{{"metadata":{{"deviceid":"d1"{time}}},"attrs":{{"t":{n},"n":{n}}}}}"#);
            platform.append(&Subject::DEVICE_DATA, "d1", value).await;
        }
        let before = platform.stored("d1", "t", COUNT).await;
        let records = platform.read(&Subject::DEVICE_DATA, COUNT).await;
        assert_eq!(records.len(), COUNT);
        for record in &records {
            let reading = sample::read(record).unwrap().unwrap();
            platform.test.engines.history.insert(&reading.samples().collect::<Vec<_>>()).await.unwrap();
        }
        assert_eq!(platform.samples("d1", "t").await, before, "{:?}", platform.test);
        assert_eq!(platform.samples("d1", "n").await.len(), COUNT, "{:?}", platform.test);
        // Equal times are in the order of the log.
        let odd: Vec<String> = (0..COUNT).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
        let of_one_time = before.iter().filter(|sample| sample.ts_ms == 4_102_444_800_000);
        assert_eq!(of_one_time.map(|sample| sample.value.clone()).collect::<Vec<_>>(), odd);
    }
}

#[tokio::test]
async fn a_deleted_tenant_leaves_nothing_to_the_next_of_its_name() {
    for platform in both().await {
        platform.append(&Subject::DEVICE_DATA, "d1", GOOD).await;
        platform.stored("d1", "t", 1).await;
        let device = DeviceId::parse("d1").unwrap();
        platform.neighbours.remove_tenant(&platform.tenant, &["persister"]).await;
        assert!(!platform.test.engines.history.has_device(&platform.tenant, 0, &device).await.unwrap());
        // As data-broker does when all others have confirmed.
        platform.test.engines.log.delete_topic(&platform.topic(&Subject::DEVICE_DATA)).await.unwrap();
        platform.neighbours.create_tenant(&platform.tenant).await;
        let new = r#"{"metadata":{"deviceid":"d1","timestamp":4102444800124},"attrs":{"t":"new"}}"#;
        platform.append(&Subject::DEVICE_DATA, "d1", new).await;
        let values: Vec<String> =
            platform.stored("d1", "t", 1).await.into_iter().map(|sample| sample.value).collect();
        assert_eq!(values, ["\"new\""], "{:?}", platform.test);
    }
}

#[tokio::test]
async fn a_tenant_that_is_only_missing_from_the_list_keeps_its_samples() {
    for platform in both().await {
        let reading = |n: u32| format!(r#"{{"metadata":{{"deviceid":"d1"}},"attrs":{{"t":{n}}}}}"#);
        platform.append(&Subject::DEVICE_DATA, "d1", reading(1)).await;
        platform.stored("d1", "t", 1).await;
        platform.neighbours.lose_tenant(&platform.tenant);
        // The end of another makes persister ask for the list; what is missing from it comes before what is removed.
        platform.neighbours.remove_tenant(&fresh_tenant(), &["persister"]).await;
        // It is followed again when it is back, and what was appended in between is found.
        platform.append(&Subject::DEVICE_DATA, "d1", reading(2)).await;
        platform.neighbours.create_tenant(&platform.tenant).await;
        let samples = platform.stored("d1", "t", 2).await;
        let values: Vec<&str> = samples.iter().map(|sample| sample.value.as_str()).collect();
        assert_eq!(values, ["1", "2"], "{:?}", platform.test);
    }
}
