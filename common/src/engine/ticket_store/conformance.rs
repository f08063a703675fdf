//! One suite for both engines.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{RedisSettings, TicketStore};
use crate::{
    clock::Clock,
    testing::{Forwarder, eventually, real_engine},
};

const LONG: Duration = Duration::from_mins(1);

fn both() -> [TicketStore; 2] {
    let redis = TicketStore::redis(&RedisSettings { url: real_engine("REDIS") }).unwrap();
    [TicketStore::memory(Clock::system()), redis]
}

fn fresh() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn a_value_is_taken_once_and_looked_at_often() {
    for tickets in both() {
        let key = fresh();
        let value: &[u8] = b"binary \0\xff\r\n$";
        assert_eq!(tickets.peek("n", &key).await.unwrap(), None);
        tickets.put("n", &key, b"first", LONG).await.unwrap();
        tickets.put("n", &key, value, LONG).await.unwrap();
        for _ in 0..2 {
            assert_eq!(tickets.peek("n", &key).await.unwrap().as_deref(), Some(value));
        }
        assert_eq!(tickets.take("n", &key).await.unwrap().as_deref(), Some(value));
        assert_eq!(tickets.take("n", &key).await.unwrap(), None);
        assert_eq!(tickets.peek("n", &key).await.unwrap(), None);
        tickets.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_simultaneous_takers_one_gets_it() {
    for tickets in both() {
        let key = fresh();
        tickets.put("n", &key, b"v", LONG).await.unwrap();
        let takers = (0..100).map(|_| {
            let (tickets, key) = (tickets.clone(), key.clone());
            async move { tickets.take("n", &key).await.unwrap() }
        });
        let mut tasks = tokio::task::JoinSet::new();
        for taker in takers {
            tasks.spawn(taker);
        }
        let taken = tasks.join_all().await;
        assert_eq!(taken.iter().flatten().count(), 1);
    }
}

#[tokio::test]
async fn values_expire() {
    for tickets in both() {
        let (short, long) = (fresh(), fresh());
        tickets.put("n", &short, b"v", Duration::from_millis(300)).await.unwrap();
        tickets.put("n", &long, b"v", LONG).await.unwrap();
        assert!(tickets.peek("n", &short).await.unwrap().is_some());
        eventually("the value expires", async || {
            tickets.peek("n", &short).await.unwrap().is_none().then_some(())
        })
        .await;
        assert_eq!(tickets.take("n", &short).await.unwrap(), None);
        assert!(tickets.take("n", &long).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn namespaces_are_apart() {
    for tickets in both() {
        let key = fresh();
        tickets.put("one", &key, b"1", LONG).await.unwrap();
        tickets.put("two", &key, b"2", LONG).await.unwrap();
        assert_eq!(tickets.take("three", &key).await.unwrap(), None);
        assert_eq!(tickets.take("two", &key).await.unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(tickets.take("one", &key).await.unwrap().as_deref(), Some(&b"1"[..]));
    }
}

#[tokio::test]
async fn redis_may_come_late_and_go_away() {
    let forwarder = Forwarder::reserve(&real_engine("REDIS")).await;
    let url = format!("redis://{}", forwarder.address());
    let tickets = TicketStore::redis(&RedisSettings { url }).unwrap();
    let key = fresh();
    let started = Instant::now();
    assert!(tickets.put("n", &key, b"v", LONG).await.is_err());
    assert!(tickets.check().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(4));

    for _ in 0..2 {
        let running = forwarder.start().await;
        // At once, not at the second attempt.
        tickets.put("n", &key, b"v", LONG).await.unwrap();
        assert!(tickets.take("n", &key).await.unwrap().is_some());
        running.stop().await;
        let started = Instant::now();
        assert!(tickets.take("n", &key).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn a_silent_redis_costs_a_second_and_not_more() {
    let forwarder = Forwarder::reserve(&real_engine("REDIS")).await;
    let tickets =
        TicketStore::redis(&RedisSettings { url: format!("redis://{}", forwarder.address()) }).unwrap();
    let running = forwarder.start().await;
    tickets.check().await.unwrap();
    running.freeze(true);
    let started = Instant::now();
    assert!(tickets.check().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(3));
    running.freeze(false);
    tickets.check().await.unwrap();
    running.stop().await;
}
