//! Speed, so that a change that costs much is noticed.

use tokio::time::Instant;

use super::*;
use crate::engine::event_log::Start;

on_both!(ten_megabytes_a_second, the_latency_of_one_record, a_small_queue_bounds_what_is_on_its_way);

async fn ten_megabytes_a_second(subject: Subject) {
    const RECORDS: u64 = 300_000;
    const BYTES: usize = 200;
    let topic = subject.created_with("device-data", 4).await;
    let keys: Vec<Bytes> = (0..100).map(|n| format!("tenant:device{n}").into()).collect();
    let value = Bytes::from(vec![b'v'; BYTES]);
    let tally = Tally::new();
    let began = Instant::now();
    for n in 0..RECORDS {
        let key = Some(keys[n as usize % keys.len()].clone());
        let record = NewRecord { topic: topic.clone(), key, value: value.clone(), headers: Headers::new() };
        subject.log.produce(record, tally.delivery(n)).await;
    }
    tally.all_delivered(RECORDS).await;
    let appended = rate(RECORDS, BYTES, began);
    let mut group = subject.group("readers", &[topic]);
    let began = Instant::now();
    let mut count = 0;
    while count < RECORDS {
        let batch = tokio::time::timeout(PATIENCE, group.next_batch(1000)).await.unwrap().unwrap();
        count += batch.len() as u64;
    }
    group.commit().await.unwrap();
    println!(
        "{}: appended {appended:.1} MB/s, read {:.1} MB/s",
        subject.engine(),
        rate(RECORDS, BYTES, began)
    );
    assert_eq!(count, RECORDS);
    assert!(appended >= 10.0, "appended only {appended:.1} MB/s");
}

fn rate(records: u64, bytes: usize, began: Instant) -> f64 {
    records as f64 * bytes as f64 / 1e6 / began.elapsed().as_secs_f64()
}

async fn the_latency_of_one_record(subject: Subject) {
    let topic = subject.created("device-data").await;
    let tail = subject.log.tail().unwrap();
    tail.add(&topic, Start::End).await.unwrap();
    let (mut durable, mut seen) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let began = Instant::now();
        let append = async {
            subject.append(&topic, "value").await;
            began.elapsed()
        };
        let tail = async {
            read_tail(&tail, 1).await;
            began.elapsed()
        };
        let times = tokio::join!(append, tail);
        // The first ones open connections.
        if n >= 20 {
            durable.push(times.0);
            seen.push(times.1);
        }
    }
    let (durable, seen) = (percentiles(durable), percentiles(seen));
    println!("{}: one record is durable after {durable}, and seen by a tail after {seen}", subject.engine());
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:.1?} (p50) {:.1?} (p99)", times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn a_small_queue_bounds_what_is_on_its_way(mut subject: Subject) {
    const CAPACITY: usize = 64 << 10;
    const BYTES: usize = 1000;
    if let Some(directory) = subject.directory.clone() {
        drop(subject.log);
        subject.log = open(&directory, CAPACITY, &subject.clock).await;
    } else {
        let settings = KafkaSettings { brokers: real_engine("KAFKA") };
        subject.log = EventLog::Kafka(KafkaLog::connect_with_queue(&settings, CAPACITY).unwrap());
    }
    let topic = subject.created("device-data").await;
    let tally = Tally::new();
    let mut most_on_the_way = 0;
    for n in 0..3000 {
        let value = format!("{n:0BYTES$}");
        subject.log.produce(record(&topic, &value), tally.delivery(n)).await;
        most_on_the_way = most_on_the_way.max(n + 1 - tally.delivered());
    }
    tally.all_delivered(3000).await;
    println!("{}: at most {most_on_the_way} records were on their way", subject.engine());
    assert!(most_on_the_way as usize * BYTES <= 2 * CAPACITY);
    let mut group = subject.group("readers", &[topic]);
    assert_eq!(numbers(&read(&mut group, 3000).await), (0..3000).collect::<Vec<_>>());
}
