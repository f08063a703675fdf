//! The life of topics: many of them, deletion, retention.

use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use sqlx::{Connection, SqliteConnection};
use tokio::time::Instant;

use super::*;
use crate::engine::event_log::Start;

on_both!(
    creating_a_topic_twice_changes_nothing,
    a_deleted_topic_is_gone_and_others_are_untouched,
    a_topic_that_is_created_anew_is_empty,
    the_topics_of_a_tenant,
    a_thousand_topics,
);

async fn creating_a_topic_twice_changes_nothing(subject: Subject) {
    let topic = subject.created("device-data").await;
    subject.append_numbers(&topic, 0..1).await;
    subject.created("device-data").await;
    let mut group = subject.group("readers", std::slice::from_ref(&topic));
    assert_eq!(numbers(&read(&mut group, 1).await), [0]);
    assert_eq!(subject.append(&topic, "1").await.offset, 1);
    // Two instances at once.
    let topic = subject.topic("other");
    let (one, two) = tokio::join!(subject.created("other"), subject.created("other"));
    assert_eq!((one, two), (topic.clone(), topic));
}

async fn a_deleted_topic_is_gone_and_others_are_untouched(subject: Subject) {
    let (doomed, kept) = (subject.created("doomed").await, subject.created("kept").await);
    let topics = [doomed.clone(), kept.clone()];
    let mut group = subject.group("readers", &topics);
    let tail = subject.log.tail().unwrap();
    for topic in &topics {
        tail.add(topic, Start::End).await.unwrap();
        subject.append_numbers(topic, 0..1).await;
    }
    assert_eq!(read(&mut group, 2).await.len(), 2);
    assert_eq!(read_tail(&tail, 2).await.len(), 2);
    subject.log.delete_topic(&doomed).await.unwrap();
    subject.log.delete_topic(&doomed).await.unwrap();
    let refused = async {
        // Kafka's client may drop what is on its way to a partition that goes: whoever asks again learns why.
        loop {
            match subject.log.append(record(&doomed, "lost")).await {
                Err(LogError::Unavailable(_)) => {}
                refused => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(matches!(refused, Err(LogError::UnknownTopic(_))), "{refused:?}");
    group.commit().await.unwrap();
    for n in 1..4 {
        subject.append_numbers(&kept, n..n + 1).await;
        assert_eq!(numbers(&read(&mut group, 1).await), [n]);
        assert_eq!(numbers(&read_tail(&tail, 1).await), [n]);
        group.commit().await.unwrap();
    }
}

async fn a_topic_that_is_created_anew_is_empty(subject: Subject) {
    let topic = subject.created("device-data").await;
    let topics = [topic.clone()];
    subject.append_numbers(&topic, 0..50).await;
    let mut group = subject.group("readers", &topics);
    read(&mut group, 50).await;
    group.commit().await.unwrap();
    drop(group);
    subject.log.delete_topic(&topic).await.unwrap();
    subject.created("device-data").await;
    assert_eq!(subject.append(&topic, "100").await.offset, 0);
    let subject = subject.restarted().await;
    assert_eq!(subject.append(&topic, "101").await.offset, 1);
    let mut group = subject.group("readers", &topics);
    assert_eq!(numbers(&read(&mut group, 2).await), [100, 101], "neither old records nor old offsets");
}

async fn the_topics_of_a_tenant(subject: Subject) {
    assert_eq!(subject.log.topics_of(&subject.tenant).await.unwrap(), []);
    let (b, a) = (subject.created("b").await, subject.created("a.with.dots").await);
    // The name of this tenant begins like the name of the other.
    let neighbour = Tenant::parse(&format!("{}x", subject.tenant)).unwrap();
    let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: 3_600_000 };
    let foreign = Topic::new(&neighbour, &Name::DEVICE_DATA);
    subject.log.create_topic(&foreign, profile).await.unwrap();
    assert_eq!(subject.log.topics_of(&subject.tenant).await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(subject.log.topics_of(&neighbour).await.unwrap(), [foreign]);
    subject.log.delete_topic(&a).await.unwrap();
    assert_eq!(subject.log.topics_of(&subject.tenant).await.unwrap(), std::slice::from_ref(&b));
    let subject = subject.restarted().await;
    assert_eq!(subject.log.topics_of(&subject.tenant).await.unwrap(), [b]);
}

async fn a_thousand_topics(subject: Subject) {
    const TOPICS: usize = 1000;
    let began = Instant::now();
    let of_subject = &subject;
    let topics: Vec<Topic> = stream::iter(0..TOPICS)
        .map(|n| async move { of_subject.created(&format!("subject{n}")).await })
        .buffered(50)
        .collect()
        .await;
    let created = began.elapsed();
    let mut group = subject.group("readers", &topics);
    let tally = Tally::new();
    for (n, topic) in topics.iter().enumerate() {
        subject.log.produce(record(topic, &n.to_string()), tally.delivery(n as u64)).await;
    }
    tally.all_delivered(TOPICS as u64).await;
    let appended = began.elapsed();
    let mut seen = numbers(&read(&mut group, TOPICS).await);
    seen.sort_unstable();
    assert_eq!(seen, (0..TOPICS as u64).collect::<Vec<_>>());
    group.commit().await.unwrap();
    println!(
        "{}: {TOPICS} topics created in {created:?}, a record in each after {appended:?}, all read and committed \
         after {:?}",
        subject.engine(),
        began.elapsed(),
    );
}

async fn expires(subject: &Subject, pass_time: impl Fn()) {
    let topic = subject.topic("device-data");
    let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: 2000 };
    subject.log.create_topic(&topic, profile).await.unwrap();
    let mut late = subject.group("late", std::slice::from_ref(&topic));
    subject.append_numbers(&topic, 0..3).await;
    assert_eq!(numbers(&read(&mut late, 1).await), [0]);
    late.commit().await.unwrap();
    drop(late);
    pass_time();
    eventually("the records expire", || async {
        let tail = subject.log.tail().unwrap();
        tail.add(&topic, Start::At(0)).await.unwrap();
        nothing_comes(&tail).await.then_some(())
    })
    .await;
    assert_eq!(subject.append(&topic, "3").await.offset, 3, "offsets go on");
    let mut late = subject.group("late", &[topic]);
    assert_eq!(numbers(&read(&mut late, 1).await), [3], "who is too late goes on with what there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_records_expire() {
    let subject = Subject::embedded_with(1 << 20, Clock::fixed(1_000_000)).await;
    expires(&subject, || subject.clock.advance(2001)).await;
    let subject = subject.restarted().await;
    let topic = subject.topic("device-data");
    assert_eq!(subject.append(&topic, "4").await.offset, 4);
    subject.clock.advance(2001);
    eventually("nothing is left", || async {
        let tail = subject.log.tail().unwrap();
        tail.add(&topic, Start::At(0)).await.unwrap();
        nothing_comes(&tail).await.then_some(())
    })
    .await;
    let subject = subject.restarted().await;
    assert_eq!(subject.append(&topic, "5").await.offset, 5, "also when no record was left to count from");
}

fn database(subject: &Subject) -> PathBuf {
    subject.directory.as_ref().unwrap().path().join("log.db")
}

async fn stored_batches(subject: &Subject) -> i64 {
    let url = format!("sqlite://{}", database(subject).display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM batches").fetch_one(&mut connection).await.unwrap()
}

/// Transactions in the write-ahead log, which is not begun anew after so few pages: frames that carry the salts of the
/// file and, as the last of their transactions, the size of the database.
async fn transactions(subject: &Subject) -> usize {
    let wal = tokio::fs::read(database(subject).with_extension("db-wal")).await.unwrap();
    let (header, frames) = wal.split_at(32);
    let page = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    let is_last = |frame: &&[u8]| frame[4..8] != [0; 4] && frame[8..16] == header[16..24];
    frames.chunks_exact(24 + page).filter(is_last).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_records_of_many_topics_expire_at_once() {
    const TOPICS: usize = 64;
    const BATCHES: u64 = 6;
    let subject = Subject::embedded_with(1 << 20, Clock::fixed(1_000_000)).await;
    let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: 2000 };
    let topics: Vec<Topic> = (0..TOPICS).map(|n| subject.topic(&format!("subject{n}"))).collect();
    for topic in &topics {
        subject.log.create_topic(topic, profile).await.unwrap();
    }
    // More batches than are deleted at once.
    for n in 0..BATCHES {
        stream::iter(&topics)
            .for_each_concurrent(None, async |topic| subject.append_numbers(topic, n..n + 1).await)
            .await;
    }
    let before = transactions(&subject).await;
    subject.clock.advance(1999);
    for topic in &topics {
        let seen = read(&mut subject.group("early", std::slice::from_ref(topic)), BATCHES as usize).await;
        assert_eq!(numbers(&seen), (0..BATCHES).collect::<Vec<_>>(), "nothing expires early");
    }
    subject.clock.advance(2);
    eventually("no record is left", || async { (stored_batches(&subject).await == 0).then_some(()) }).await;
    let transactions = transactions(&subject).await - before;
    assert!(transactions <= 4, "{transactions} transactions");
    for topic in &topics {
        assert_eq!(subject.append(topic, "6").await.offset, 6, "offsets go on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_records_expire() {
    expires(&Subject::kafka(), || {}).await;
}
