//! Tails: everything from the moment of adding, for each of them.

use super::*;
use crate::engine::event_log::Start;

on_both!(
    a_tail_sees_everything_from_its_addition_on,
    a_tail_can_begin_at_a_time,
    a_tail_is_told_what_it_has_to_catch_up_with,
    every_tail_sees_everything,
    a_removed_topic_is_silent,
    topics_are_added_while_a_task_waits,
);

async fn a_tail_sees_everything_from_its_addition_on(subject: Subject) {
    let topic = subject.created_with("device-data", 2).await;
    subject.append_numbers(&topic, 0..10).await;
    let tail = subject.log.tail().unwrap();
    let ends = tail.add(&topic, Start::End).await.unwrap();
    assert_eq!(ends.iter().map(|(_, offset)| offset).sum::<i64>(), 10);
    subject.append_numbers(&topic, 10..20).await;
    assert_eq!(numbers(&read_tail(&tail, 10).await), (10..20).collect::<Vec<_>>());
    // Adding it again changes nothing.
    tail.add(&topic, Start::At(0)).await.unwrap();
    subject.append_numbers(&topic, 20..21).await;
    assert_eq!(numbers(&read_tail(&tail, 1).await), [20]);
}

async fn a_tail_can_begin_at_a_time(subject: Subject) {
    let topic = subject.created("device-data").await;
    let mut times = Vec::new();
    for n in 0..30_u64 {
        times.push(subject.clock.now_ms());
        subject.append_numbers(&topic, n..n + 1).await;
        let appended = subject.clock.now_ms();
        until("the time goes on", || subject.clock.now_ms() > appended).await;
    }
    for (n, time) in times.iter().enumerate().step_by(7) {
        let tail = subject.log.tail().unwrap();
        let ends = tail.add(&topic, Start::At(*time)).await.unwrap();
        assert_eq!(ends, [(0, 30)]);
        let expected: Vec<u64> = (n as u64..30).collect();
        assert_eq!(numbers(&read_tail(&tail, expected.len()).await), expected);
    }
    let tail = subject.log.tail().unwrap();
    tail.add(&topic, Start::At(subject.clock.now_ms() + 1)).await.unwrap();
    subject.append_numbers(&topic, 30..31).await;
    assert_eq!(numbers(&read_tail(&tail, 1).await), [30], "nothing was as new, so it begins at the end");
}

async fn a_tail_is_told_what_it_has_to_catch_up_with(subject: Subject) {
    let topic = subject.created("device-data").await;
    let past = async |timestamp_ms| {
        let tail = subject.log.tail().unwrap();
        let past = tail.add_since(&topic, timestamp_ms).await.unwrap();
        (tail, past)
    };
    assert_eq!(past(0).await.1, [], "nothing is there");
    subject.append_numbers(&topic, 0..3).await;
    let appended = subject.clock.now_ms();
    until("the time goes on", || subject.clock.now_ms() > appended + 1).await;
    let (tail, ends) = past(appended + 1).await;
    assert_eq!(ends, [], "what is there is older");
    subject.append_numbers(&topic, 3..5).await;
    assert_eq!(numbers(&read_tail(&tail, 2).await), [3, 4]);
    let (tail, ends) = past(appended + 1).await;
    assert_eq!(ends, [(0, 5)]);
    assert_eq!(numbers(&read_tail(&tail, 2).await), [3, 4]);
    assert_eq!(past(0).await.1, [(0, 5)]);
}

async fn every_tail_sees_everything(subject: Subject) {
    let topics = [subject.created("one").await, subject.created("two").await];
    let mut tails = Vec::new();
    for _ in 0..3 {
        let tail = subject.log.tail().unwrap();
        for topic in &topics {
            tail.add(topic, Start::End).await.unwrap();
        }
        tails.push(tail);
    }
    for topic in &topics {
        subject.append_numbers(topic, 0..100).await;
    }
    for tail in &tails {
        let records = read_tail(tail, 200).await;
        for topic in &topics {
            let of_topic: Vec<u64> = records.iter().filter(|it| it.topic == *topic).map(number).collect();
            assert_eq!(of_topic, (0..100).collect::<Vec<_>>());
        }
    }
}

async fn a_removed_topic_is_silent(subject: Subject) {
    let (kept, removed) = (subject.created("kept").await, subject.created("removed").await);
    let tail = subject.log.tail().unwrap();
    tail.add(&kept, Start::End).await.unwrap();
    tail.add(&removed, Start::End).await.unwrap();
    tail.remove(&removed);
    subject.append_numbers(&removed, 0..1).await;
    assert!(nothing_comes(&tail).await);
    subject.append_numbers(&kept, 1..2).await;
    assert_eq!(numbers(&read_tail(&tail, 1).await), [1]);
    tail.add(&removed, Start::End).await.unwrap();
    subject.append_numbers(&removed, 2..3).await;
    assert_eq!(numbers(&read_tail(&tail, 1).await), [2]);
}

async fn topics_are_added_while_a_task_waits(subject: Subject) {
    let topic = subject.created("device-data").await;
    let tail = Arc::new(subject.log.tail().unwrap());
    let (sender, received) = tokio::sync::oneshot::channel();
    let reader = Arc::clone(&tail);
    subject.tasks.spawn("reader", async move {
        let _ = sender.send(read_tail(&reader, 1).await);
    });
    a_moment().await;
    tail.add(&topic, Start::End).await.unwrap();
    subject.append_numbers(&topic, 7..8).await;
    assert_eq!(numbers(&received.await.unwrap()), [7]);
}
