//! One suite for both engines.

use std::time::{Duration, Instant};

use super::{Cursor, HistoryStore, MongoSettings, Sample, Window};
use crate::{
    testing::{Forwarder, fresh_tenant, real_engine},
    wire::{DeviceId, Tenant},
};

const WEEK_S: u64 = 604_800;
/// Recent enough for the expiry.
#[expect(clippy::disallowed_methods, reason = "MongoDB expires samples by its own clock")]
fn base_ms() -> i64 {
    chrono::Utc::now().timestamp_millis() - 3_600_000
}

struct Under {
    store: HistoryStore,
    kind: &'static str,
    _directory: tempfile::TempDir,
}

async fn both() -> [Under; 2] {
    let directory = tempfile::TempDir::new().unwrap();
    let embedded = HistoryStore::embedded(directory.path(), WEEK_S).await.unwrap();
    let mongo = HistoryStore::mongodb(&mongo_at(real_engine("MONGODB")), WEEK_S).await.unwrap();
    [
        Under { store: embedded, kind: "embedded", _directory: directory },
        Under { store: mongo, kind: "MongoDB", _directory: tempfile::TempDir::new().unwrap() },
    ]
}

fn mongo_at(url: String) -> MongoSettings {
    MongoSettings { url, database: "tatami_tests".to_owned() }
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn sample(tenant: &Tenant, device_id: &str, attr: &str, ts_ms: i64, number: u64) -> Sample {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    // Identities are global; those of two tests must not meet.
    id[8..].copy_from_slice(&tenant.as_str().as_bytes()[1..9]);
    Sample {
        tenant: tenant.clone(),
        generation: 0,
        device: device(device_id),
        attr: attr.to_owned(),
        value: number.to_string(),
        ts_ms,
        metadata: "{}".to_owned(),
        id,
    }
}

impl Under {
    async fn values(&self, tenant: &Tenant, device_id: &str, attr: &str, window: Window) -> Vec<String> {
        let found = self.store.query(tenant, 0, &device(device_id), attr, window).await.unwrap();
        found.into_iter().map(|sample| sample.value).collect()
    }
}

#[tokio::test]
async fn windows_orders_and_limits() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        let samples: Vec<Sample> =
            (0..10).map(|n| sample(&tenant, "d1", "t", base + 1000 * n as i64, n)).collect();
        under.store.insert(&samples).await.unwrap();
        let found = under.store.query(&tenant, 0, &device("d1"), "t", Window::default()).await.unwrap();
        let newest_first: Vec<Sample> = samples.iter().rev().cloned().collect();
        assert_eq!(found, newest_first);
        let from = |n: i64| Some(base + 1000 * n);
        let window = |from_ms, to_ms, oldest_first, limit| Window { from_ms, to_ms, oldest_first, limit };
        for (window, expected) in [
            (window(None, None, false, Some(3)), "987"),
            (window(None, None, true, Some(3)), "012"),
            (window(from(2), from(4), false, None), "432"),
            (window(from(2), from(4), true, None), "234"),
            (window(from(2), from(4), true, Some(2)), "23"),
            (window(from(7), None, false, None), "987"),
            (window(None, from(1), true, None), "01"),
            (window(from(4), from(2), false, None), ""),
            (window(from(10), None, false, None), ""),
            (window(Some(base + 1), Some(base + 999), false, None), ""),
            (window(None, None, false, Some(0)), ""),
            (window(None, None, true, Some(u64::MAX)), "0123456789"),
            (window(Some(i64::MIN), Some(i64::MAX), true, None), "0123456789"),
        ] {
            let values = under.values(&tenant, "d1", "t", window).await.concat();
            assert_eq!(values, expected, "{} {window:?}", under.kind);
        }
    }
}

#[tokio::test]
async fn equal_times_are_in_the_order_of_identities() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        // Stored in another order than that of the log.
        for number in [300, 1, 2, 255, 256, 70_000] {
            under.store.insert(&[sample(&tenant, "d1", "t", base, number)]).await.unwrap();
        }
        let values = under.values(&tenant, "d1", "t", Window::default()).await;
        assert_eq!(values, ["70000", "300", "256", "255", "2", "1"], "{}", under.kind);
        let window = Window { oldest_first: true, limit: Some(2), ..Window::default() };
        assert_eq!(under.values(&tenant, "d1", "t", window).await, ["1", "2"], "{}", under.kind);
    }
}

#[tokio::test]
async fn large_results_are_read_in_pieces() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        // Three samples per millisecond, so that pieces end between equal times.
        let samples: Vec<Sample> =
            (0..100).map(|n| sample(&tenant, "d1", "t", base + n as i64 / 3, n)).collect();
        under.store.insert(&samples).await.unwrap();
        for oldest_first in [true, false] {
            let window =
                Window { oldest_first, limit: Some(7), from_ms: Some(base + 1), to_ms: Some(base + 32) };
            let mut found = Vec::new();
            let mut after: Option<Cursor> = None;
            loop {
                let piece =
                    under.store.query_after(&tenant, 0, &device("d1"), "t", window, after).await.unwrap();
                let Some(last) = piece.last() else { break };
                after = Some(Cursor::from(last));
                found.extend(piece);
            }
            let whole = Window { limit: None, ..window };
            let expected = under.store.query(&tenant, 0, &device("d1"), "t", whole).await.unwrap();
            assert_eq!(expected.len(), 96, "{}", under.kind);
            assert_eq!(found, expected, "{} {oldest_first}", under.kind);
        }
    }
}

#[tokio::test]
async fn a_stored_sample_is_left_as_it_is() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        let first = sample(&tenant, "d1", "t", base, 1);
        under.store.insert(std::slice::from_ref(&first)).await.unwrap();
        let again = Sample { value: "\"changed\"".to_owned(), ..first.clone() };
        let new = sample(&tenant, "d1", "t", base + 1, 2);
        // Twice in one batch, too.
        under.store.insert(&[again.clone(), new.clone(), again, new.clone()]).await.unwrap();
        let found = under.store.query(&tenant, 0, &device("d1"), "t", Window::default()).await.unwrap();
        assert_eq!(found, [new, first], "{}", under.kind);
        under.store.insert(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn tenants_devices_and_attributes_are_apart() {
    for under in both().await {
        let (one, two, base) = (fresh_tenant(), fresh_tenant(), base_ms());
        let samples = [
            sample(&one, "d1", "t", base, 1),
            sample(&two, "d1", "t", base, 2),
            sample(&one, "d2", "t", base, 3),
            sample(&one, "d1", "T", base, 4),
            sample(&one, "d1", "t ", base, 5),
        ];
        under.store.insert(&samples).await.unwrap();
        assert_eq!(under.values(&one, "d1", "t", Window::default()).await, ["1"], "{}", under.kind);
        assert_eq!(under.values(&two, "d1", "t", Window::default()).await, ["2"], "{}", under.kind);
        assert_eq!(under.values(&two, "d2", "t", Window::default()).await, [""; 0], "{}", under.kind);
        assert_eq!(under.values(&one, "d1", "T", Window::default()).await, ["4"], "{}", under.kind);
        let has = async |tenant: &Tenant, id| under.store.has_device(tenant, 0, &device(id)).await.unwrap();
        assert!(has(&one, "d1").await && has(&one, "d2").await && has(&two, "d1").await);
        assert!(!has(&two, "d2").await && !has(&one, "d").await && !has(&one, "D1").await);
    }
}

#[tokio::test]
async fn a_removed_tenant_leaves_nothing_and_may_come_back() {
    for under in both().await {
        let (gone, stays, base) = (fresh_tenant(), fresh_tenant(), base_ms());
        let samples: Vec<Sample> = (0..12_000)
            .map(|n| sample(&gone, ["d1", "d2"][n as usize % 2], "t", base + n as i64, n))
            .chain([sample(&stays, "d1", "t", base, 1)])
            .collect();
        under.store.insert(&samples).await.unwrap();
        under.store.remove_tenant(&gone, 1).await.unwrap();
        assert!(!under.store.has_device(&gone, 0, &device("d1")).await.unwrap(), "{}", under.kind);
        assert_eq!(under.values(&gone, "d2", "t", Window::default()).await, [""; 0], "{}", under.kind);
        assert_eq!(under.values(&stays, "d1", "t", Window::default()).await, ["1"], "{}", under.kind);
        under.store.insert(&samples[..1]).await.unwrap();
        // An instance that is late must not touch what belongs to the next tenant of this name.
        under.store.remove_tenant(&gone, 1).await.unwrap();
        assert_eq!(under.values(&gone, "d1", "t", Window::default()).await, ["0"], "{}", under.kind);
        under.store.remove_tenant(&gone, 2).await.unwrap();
        assert_eq!(under.values(&gone, "d1", "t", Window::default()).await, [""; 0], "{}", under.kind);
    }
}

#[tokio::test]
async fn tenants_of_one_name_do_not_see_each_other() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        let of = |generation, number| Sample {
            generation,
            ..sample(&tenant, "d1", "t", base + number as i64, number)
        };
        let late = Sample { generation: 1, ..sample(&tenant, "d2", "t", base, 4) };
        // The second comes before all of the first has arrived.
        under.store.insert(&[of(1, 1), of(0, 0)]).await.unwrap();
        under.store.remove_tenant(&tenant, 1).await.unwrap();
        under.store.insert(&[of(2, 3), of(1, 2), late.clone()]).await.unwrap();
        let window = Window { oldest_first: true, ..Window::default() };
        let seen = async |generation| {
            let found = under.store.query(&tenant, generation, &device("d1"), "t", window).await.unwrap();
            found.into_iter().map(|sample| (sample.generation, sample.value)).collect::<Vec<_>>()
        };
        assert_eq!(seen(2).await, [(2, "3".to_owned())], "{}", under.kind);
        assert_eq!(seen(0).await.len(), 2, "{}", under.kind);
        assert!(under.store.has_device(&tenant, 2, &device("d1")).await.unwrap(), "{}", under.kind);
        assert!(!under.store.has_device(&tenant, 2, &device("d2")).await.unwrap(), "{}", under.kind);
        // What does not say whose it is belongs to everybody.
        under.store.insert(&[of(0, 5)]).await.unwrap();
        assert_eq!(seen(2).await, [(2, "3".to_owned()), (0, "5".to_owned())], "{}", under.kind);
        // A removal leaves later ones alone, and takes what earlier ones left.
        under.store.remove_tenant(&tenant, 2).await.unwrap();
        assert_eq!(seen(0).await, [], "{}", under.kind);
        under.store.insert(&[of(9, 6), of(2, 7)]).await.unwrap();
        under.store.remove_tenant(&tenant, 3).await.unwrap();
        assert_eq!(seen(9).await, [(9, "6".to_owned())], "{}", under.kind);
        assert_eq!(seen(0).await.len(), 1, "{}", under.kind);
    }
}

#[tokio::test]
async fn values_come_back_as_they_were_sent() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let long = format!("\"{}\"", "x".repeat(300_000));
        let values = [
            "1",
            "1.0",
            "-0",
            "-0.0",
            "1e3",
            "9007199254740993",
            "18446744073709551616",
            "0.1000",
            "123456789012345678901234567890.123456789",
            "null",
            "true",
            "\"\"",
            "\" \"",
            "\"1\"",
            "\"ünï → 漢字 🦀\"",
            "\"\\u0000\\n\\\"\\ud83e\\udd80\"",
            "[]",
            "{}",
            "[1, 2.0,null]",
            "{\"b\":1,\"a\":{\"$date\":1.0,\"a.b\":[]},\"\":0}",
            "{\"a\":1,\"a\":2}",
            &deep,
            &long,
        ];
        let mut samples = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let number = number as u64;
            let mut sample = sample(&tenant, "d1", "ättr.$ \0\"x", base + number as i64, number);
            (*value).clone_into(&mut sample.value);
            sample.metadata = format!("{{\"x\": [{number}, 1.0], \"ü\":null}}");
            samples.push(sample);
        }
        under.store.insert(&samples).await.unwrap();
        let window = Window { oldest_first: true, ..Window::default() };
        let found = under.store.query(&tenant, 0, &device("d1"), "ättr.$ \0\"x", window).await.unwrap();
        assert_eq!(found, samples, "{}", under.kind);
    }
}

#[tokio::test]
async fn any_time_can_be_stored() {
    for under in both().await {
        let tenant = fresh_tenant();
        // Not older than the expiry: those may go at any moment.
        for (number, ts_ms) in [base_ms(), 4_102_444_800_123, 253_402_300_799_999].into_iter().enumerate() {
            under.store.insert(&[sample(&tenant, "d1", "t", ts_ms, number as u64)]).await.unwrap();
        }
        assert_eq!(under.values(&tenant, "d1", "t", Window::default()).await, ["2", "1", "0"]);
    }
}

#[tokio::test]
async fn twenty_thousand_samples() {
    for under in both().await {
        let (tenant, base) = (fresh_tenant(), base_ms());
        let metadata = format!("{{\"note\":\"{}\"}}", "x".repeat(60));
        let samples: Vec<Sample> = (0..20_000)
            .map(|n| {
                let mut sample =
                    sample(&tenant, &format!("d{}", n % 1000), "temperature", base + n as i64, n);
                sample.metadata.clone_from(&metadata);
                sample
            })
            .collect();
        let started = Instant::now();
        for batch in samples.chunks(1000) {
            under.store.insert(batch).await.unwrap();
        }
        let rate = 20_000.0 / started.elapsed().as_secs_f64();
        let started = Instant::now();
        for n in 0..100 {
            let window = Window { limit: Some(5), ..Window::default() };
            assert_eq!(under.values(&tenant, &format!("d{n}"), "temperature", window).await.len(), 5);
        }
        let each = started.elapsed() / 100;
        println!("{}: {rate:.0} samples/s in batches of 1000; last 5 in {each:?}", under.kind);
    }
}

#[tokio::test]
async fn mongodb_may_come_late_and_go_away() {
    let forwarder = Forwarder::reserve(&real_engine("MONGODB")).await;
    // Directly, or the driver would find the server's own address.
    let url = format!("mongodb://{}/?directConnection=true", forwarder.address());
    let started = Instant::now();
    let store = HistoryStore::mongodb(&mongo_at(url), WEEK_S).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    let (tenant, base) = (fresh_tenant(), base_ms());
    let samples = [sample(&tenant, "d1", "t", base, 1)];
    let is_away = async || {
        let started = Instant::now();
        let error = store.insert(&samples).await.unwrap_err();
        assert!(matches!(error, super::HistoryError::Unavailable(_)), "{error}");
        assert!(store.check().await.is_err());
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    };
    is_away().await;
    for _ in 0..2 {
        let running = forwarder.start().await;
        crate::testing::eventually("MongoDB is used again", async || store.check().await.ok()).await;
        store.insert(&samples).await.unwrap();
        running.stop().await;
        is_away().await;
    }
}

#[tokio::test]
async fn an_expiry_that_was_changed_is_taken_over() {
    let database = format!("tatami_tests_{}", fresh_tenant());
    let settings = MongoSettings { url: real_engine("MONGODB"), database: database.clone() };
    let client = mongodb::Client::with_uri_str(&settings.url).await.unwrap();
    for expiry_s in [1000, 1000, 2000] {
        let store = HistoryStore::mongodb(&settings, expiry_s).await.unwrap();
        store.check().await.unwrap();
        let list = mongodb::bson::doc! { "listIndexes": "samples" };
        let indexes = client.database(&database).run_command(list).await.unwrap().to_string();
        assert!(indexes.contains(&format!("\"expireAfterSeconds\": {expiry_s}")), "{indexes}");
    }
    client.database(&database).drop().await.unwrap();
}
