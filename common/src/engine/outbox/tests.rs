use sqlx::migrate::Migrator;

use super::*;
use crate::{
    engine::event_log::Start,
    http::client::Service,
    testing::{Neighbours, TestEngines, fresh_tenant},
    wire::Topic,
};

const EVENTS: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_many_events_does_not_keep_others_waiting() {
    for test in TestEngines::both().await {
        let engines = &test.engines;
        let neighbours = Neighbours::start(engines, &[Service::DataBroker], axum::Router::new()).await;
        let ready = engines.readiness.register("outbox");
        let sql = engines.sql.open("outbox-test", Migrator::DEFAULT, ready, &engines.shutdown).unwrap();
        sql.migrated().await;
        let topics = Topics::new(engines.client.clone(), "outbox-test");
        let outbox =
            Outbox::start(sql.clone(), engines.log.clone(), topics, engines.clock.clone(), &engines.shutdown);

        let (busy, quiet) = (fresh_tenant(), fresh_tenant());
        let tail = engines.log.tail().unwrap();
        for tenant in [&busy, &quiet] {
            let topic = Topic::new(tenant, &Subject::DEVICE);
            neighbours.create_topic(&topic).await;
            tail.add(&topic, Start::End).await.unwrap();
        }
        let event =
            |tenant, n: usize| Event { tenant, subject: Subject::DEVICE, key: None, value: n.to_string() };
        let mut transaction = sql.begin().await.unwrap();
        let many = (0..EVENTS).map(|n| event(&busy, n)).collect();
        outbox.add_all(&mut transaction, many).await.unwrap();
        outbox.add(&mut transaction, event(&quiet, 0)).await.unwrap();
        transaction.commit().await.unwrap();
        outbox.committed();

        let (mut of_busy, mut before_quiet) = (Vec::new(), None);
        while of_busy.len() < EVENTS || before_quiet.is_none() {
            for record in tail.next_batch(500).await.unwrap() {
                if *record.topic.tenant() == quiet {
                    before_quiet = Some(of_busy.len());
                } else {
                    of_busy.push(String::from_utf8(record.value.to_vec()).unwrap().parse::<usize>().unwrap());
                }
            }
        }
        assert!(of_busy.iter().copied().eq(0..EVENTS), "in order and once, {}", test.kind);
        assert!(before_quiet.is_some_and(|before| before < EVENTS / 2), "{before_quiet:?}, {}", test.kind);
        engines.shutdown.drain(Duration::from_secs(5)).await;
    }
}

/// Instances of a service share a database, and whoever has something to announce does not wait for another's next look.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_relays_at_once_what_it_wrote() {
    const TURNS: usize = 20;
    let test = TestEngines::real().await;
    let engines = &test.engines;
    let neighbours = Neighbours::start(engines, &[Service::DataBroker], axum::Router::new()).await;
    let ready = engines.readiness.register("outbox");
    let sql = engines.sql.open("outbox-turns", Migrator::DEFAULT, ready, &engines.shutdown).unwrap();
    sql.migrated().await;
    let start = || {
        let topics = Topics::new(engines.client.clone(), "outbox-turns");
        Outbox::start(sql.clone(), engines.log.clone(), topics, engines.clock.clone(), &engines.shutdown)
    };
    let instances = [start(), start()];
    let tenant = fresh_tenant();
    let topic = Topic::new(&tenant, &Subject::DEVICE);
    neighbours.create_topic(&topic).await;
    let tail = engines.log.tail().unwrap();
    tail.add(&topic, Start::End).await.unwrap();
    let began = std::time::Instant::now();
    for (turn, outbox) in instances.iter().cycle().take(TURNS).enumerate() {
        let event = Event { tenant: &tenant, subject: Subject::DEVICE, key: None, value: turn.to_string() };
        let mut transaction = sql.begin().await.unwrap();
        outbox.add(&mut transaction, event).await.unwrap();
        transaction.commit().await.unwrap();
        outbox.committed();
        let expected = turn.to_string();
        while tail.next_batch(10).await.unwrap().iter().all(|record| record.value != expected.as_bytes()) {}
    }
    // Waiting for the other's look takes half a second on average, each time.
    assert!(began.elapsed() < Duration::from_secs(TURNS as u64 / 4), "{:?}", began.elapsed());
    engines.shutdown.drain(Duration::from_secs(5)).await;
}
