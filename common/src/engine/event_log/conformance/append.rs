//! Appending: order, limits, back-pressure.

use std::collections::HashMap;

use super::*;
use crate::engine::event_log::{MAX_RECORD_BYTES, Start};

on_both!(
    records_of_a_key_keep_their_order,
    a_record_is_read_as_it_was_appended,
    an_unknown_topic_is_refused,
    a_record_that_is_too_large_is_refused,
    flush_waits_for_everything,
    the_engine_answers,
);

async fn records_of_a_key_keep_their_order(subject: Subject) {
    let topic = subject.created_with("device-data", 4).await;
    let tally = Tally::new();
    for n in 0..2000_u64 {
        let record =
            NewRecord { key: Some(format!("key{}", n % 10).into()), ..record(&topic, &n.to_string()) };
        subject.log.produce(record, tally.delivery(n)).await;
    }
    tally.all_delivered(2000).await;
    let mut group = subject.group("order", std::slice::from_ref(&topic));
    let mut of_key: HashMap<Bytes, Vec<u64>> = HashMap::new();
    for record in read(&mut group, 2000).await {
        of_key.entry(record.key.clone().unwrap()).or_default().push(number(&record));
    }
    assert_eq!(of_key.len(), 10);
    for numbers in of_key.values() {
        assert_eq!(numbers.len(), 200);
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

async fn a_record_is_read_as_it_was_appended(subject: Subject) {
    let topic = subject.created("device-data").await;
    let tail = subject.log.tail().unwrap();
    tail.add(&topic, Start::End).await.unwrap();
    let before_ms = subject.clock.now_ms();
    let mut headers = Headers::new();
    headers.push(("tatami-event-id", Bytes::from_static(b"e1")));
    headers.push(("empty", Bytes::new()));
    let with_all = NewRecord { headers, ..record(&topic, "with") };
    let bare = NewRecord { key: None, value: Bytes::new(), ..record(&topic, "") };
    let first = subject.log.append(with_all).await.unwrap();
    let second = subject.log.append(bare).await.unwrap();
    assert_eq!((first.offset, second.offset), (0, 1));
    let records = read_tail(&tail, 2).await;
    assert_eq!((records[0].offset, records[1].offset), (0, 1));
    assert_eq!(&records[0].topic, &topic);
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(text(&records[0]), "with");
    assert_eq!(records[0].header("tatami-event-id").unwrap(), &Bytes::from_static(b"e1"));
    assert_eq!(records[0].header("empty").unwrap(), &Bytes::new());
    assert!((before_ms..=subject.clock.now_ms()).contains(&records[0].timestamp_ms));
    assert_eq!((records[1].key.clone(), records[1].value.len(), records[1].headers.len()), (None, 0, 0));
}

async fn an_unknown_topic_is_refused(subject: Subject) {
    let nowhere = subject.topic("device-data");
    let refused = tokio::time::timeout(PATIENCE, subject.log.append(record(&nowhere, "lost"))).await.unwrap();
    assert!(matches!(refused, Err(LogError::UnknownTopic(_))), "{refused:?}");
    let refused = subject.log.tail().unwrap().add(&nowhere, Start::End).await;
    assert!(matches!(refused, Err(LogError::UnknownTopic(_))), "{refused:?}");
}

async fn a_record_that_is_too_large_is_refused(subject: Subject) {
    let topic = subject.created("device-data").await;
    let of = |bytes: usize| NewRecord { value: vec![b'x'; bytes].into(), ..record(&topic, "") };
    let refused = subject.log.append(of(MAX_RECORD_BYTES + 1)).await;
    assert!(matches!(refused, Err(LogError::TooLarge)), "{refused:?}");
    let largest = MAX_RECORD_BYTES - 100;
    subject.log.append(of(largest)).await.unwrap();
    let mut group = subject.group("large", &[topic]);
    assert_eq!(read(&mut group, 1).await[0].value.len(), largest);
}

async fn flush_waits_for_everything(subject: Subject) {
    let topic = subject.created("device-data").await;
    let tally = Tally::new();
    for n in 0..1000 {
        subject.log.produce(record(&topic, "value"), tally.delivery(n)).await;
    }
    subject.log.flush().await;
    assert_eq!(tally.delivered(), 1000);
}

async fn the_engine_answers(subject: Subject) {
    subject.log.check().await.unwrap();
}

/// While nothing can be written, producers wait, and everything is written afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_wait_while_the_disk_is_stuck() {
    let subject = Subject::embedded_with(64 << 10, Clock::system()).await;
    let topic = subject.created("device-data").await;
    let stuck = crash::hold_the_database(&subject).await;
    let (tally, handed_over) = (Tally::new(), Arc::new(AtomicU64::new(0)));
    let (log, sink, count) = (subject.log.clone(), Arc::clone(&tally), Arc::clone(&handed_over));
    subject.tasks.spawn("producer", async move {
        for n in 0..200 {
            let value = format!("{n:01000}");
            log.produce(record(&topic, &value), sink.delivery(n)).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    // 64 KiB hold 62 such records.
    until("the queue is full", || handed_over.load(Ordering::SeqCst) >= 60).await;
    for _ in 0..10 {
        a_moment().await;
        assert!(handed_over.load(Ordering::SeqCst) < 66);
    }
    assert_eq!(tally.delivered(), 0);
    drop(stuck);
    tally.all_delivered(200).await;
    let mut group = subject.group("waiters", &[subject.topic("device-data")]);
    assert_eq!(numbers(&read(&mut group, 200).await), (0..200).collect::<Vec<_>>());
}
