//! What happens while Kafka is away. Not part of an ordinary run, as it takes the engine away from other tests:
//! `engines.sh with DIR -- cargo test -p common --lib -- --ignored outage`.

use std::process::Command;

use tokio::time::Instant;

use super::*;
use crate::engine::event_log::Start;

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
fn engines(verb: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/engines/engines.sh");
    let directory = std::env::var("TATAMI_TEST_ENGINES").unwrap();
    assert!(Command::new(script).args([verb, &directory, "kafka"]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "kills the engine, see above"]
async fn kafka_comes_back_after_an_outage() {
    let subject = Subject::kafka();
    let topics = [subject.created("device-data").await];
    let mut group = subject.group("readers", &topics);
    let tail = subject.log.tail().unwrap();
    tail.add(&topics[0], Start::End).await.unwrap();
    subject.append_numbers(&topics[0], 0..1).await;
    assert_eq!(numbers(&read(&mut group, 1).await), [0]);
    assert_eq!(numbers(&read_tail(&tail, 1).await), [0]);

    engines("kill");
    let tally = Tally::new();
    for n in 1..101 {
        subject.log.produce(record(&topics[0], &n.to_string()), tally.delivery(n)).await;
    }
    let began = Instant::now();
    assert!(subject.log.check().await.is_err());
    println!("check fails after {:?}", began.elapsed());
    let began = Instant::now();
    let commit = tokio::time::timeout(PATIENCE, group.commit()).await.unwrap();
    println!("commit gives {commit:?} after {:?}", began.elapsed());
    let began = Instant::now();
    let other = subject.group("others", &topics);
    let added = subject.log.tail().unwrap().add(&topics[0], Start::End).await;
    println!("a tail gives {added:?} after {:?}", began.elapsed());
    let began = Instant::now();
    drop(other);
    println!("leaving takes {:?}", began.elapsed());
    let began = Instant::now();
    let created = subject
        .log
        .create_topic(
            &subject.topic("other"),
            TopicProfile { partitions: 1, replication: 1, retention_ms: -1 },
        )
        .await;
    println!("creating gives {created:?} after {:?}", began.elapsed());
    assert_eq!(tally.delivered(), 0);

    engines("restart");
    let began = Instant::now();
    tally.all_delivered(100).await;
    println!("delivered {:?} after the return", began.elapsed());
    assert_eq!(numbers(&read_tail(&tail, 100).await), (1..101).collect::<Vec<_>>());
    println!("tailed {:?} after the return", began.elapsed());
    let mut seen = Vec::new();
    while seen.last() != Some(&100) {
        match tokio::time::timeout(PATIENCE, group.next_batch(100)).await.unwrap() {
            Ok(batch) => seen.extend(numbers(&batch)),
            Err(error) => println!("reading gives {error}"),
        }
    }
    println!("read {:?} after the return", began.elapsed());
    // The first one comes again, as it could not be committed.
    seen.retain(|n| *n > 0);
    assert_eq!(seen, (1..101).collect::<Vec<_>>());
    group.commit().await.unwrap();
}
