//! Groups: sharing, take-over, committed offsets.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::*;

on_both!(
    a_group_goes_on_after_a_restart,
    what_was_not_committed_comes_again,
    a_new_topic_is_picked_up_while_running,
    members_share_the_topics_and_take_over,
    groups_do_not_disturb_each_other,
    a_topic_that_is_not_subscribed_to_any_more_is_silent,
    reading_can_be_cancelled,
);

async fn a_group_goes_on_after_a_restart(subject: Subject) {
    let topics = [subject.created("device-data").await];
    subject.append_numbers(&topics[0], 0..20).await;
    let mut group = subject.group("workers", &topics);
    assert_eq!(numbers(&read(&mut group, 10).await), (0..10).collect::<Vec<_>>());
    group.commit().await.unwrap();
    drop(group);
    let subject = subject.restarted().await;
    let mut group = subject.group("workers", &topics);
    assert_eq!(numbers(&read(&mut group, 10).await), (10..20).collect::<Vec<_>>());
    group.commit().await.unwrap();
    drop(group);
    let subject = subject.restarted().await;
    let mut group = subject.group("workers", &topics);
    subject.append_numbers(&topics[0], 20..21).await;
    assert_eq!(numbers(&read(&mut group, 1).await), [20]);
}

async fn what_was_not_committed_comes_again(subject: Subject) {
    let topics = [subject.created("device-data").await];
    subject.append_numbers(&topics[0], 0..10).await;
    let mut group = subject.group("workers", &topics);
    read(&mut group, 3).await;
    group.commit().await.unwrap();
    assert_eq!(numbers(&read(&mut group, 4).await), [3, 4, 5, 6]);
    // The work is done, and the crash comes before the commit.
    drop(group);
    let subject = subject.restarted().await;
    let mut group = subject.group("workers", &topics);
    assert_eq!(numbers(&read(&mut group, 7).await), (3..10).collect::<Vec<_>>());
}

async fn a_new_topic_is_picked_up_while_running(subject: Subject) {
    let old = subject.created("device-data").await;
    let new = subject.topic("dojot.device-manager.device");
    let mut group = subject.group("workers", &[old.clone(), new.clone()]);
    subject.append_numbers(&old, 0..1).await;
    assert_eq!(read(&mut group, 1).await[0].topic, old);
    subject.created("dojot.device-manager.device").await;
    subject.append_numbers(&new, 1..2).await;
    assert_eq!(read(&mut group, 1).await[0].topic, new);
    // And one that nobody had heard of when the group began.
    let later = subject.created("tatami.dead-letter").await;
    subject.append_numbers(&later, 2..3).await;
    group.subscribe(&[old, new, later]).unwrap();
    assert_eq!(numbers(&read(&mut group, 1).await), [2]);
}

/// Reads and commits until it is stopped; what it read comes out of the channel.
fn member(subject: &Subject, topics: &[Topic]) -> (mpsc::UnboundedReceiver<Record>, Shutdown) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut group = subject.group("workers", topics);
    let stop = subject.tasks.child();
    let stopped = stop.clone();
    stop.spawn("member", async move {
        while let Some(batch) = stopped.unless_requested(group.next_batch(10)).await {
            for record in batch.unwrap() {
                // The test may be over.
                let _ = sender.send(record);
            }
            group.commit().await.unwrap();
        }
    });
    (receiver, stop)
}

async fn members_share_the_topics_and_take_over(subject: Subject) {
    let mut topics = Vec::new();
    // So many that no hash gives all of them to one member.
    for n in 0..32 {
        topics.push(subject.created(&format!("subject{n}")).await);
    }
    let (mut first, stop_first) = member(&subject, &topics);
    let (mut second, stop_second) = member(&subject, &topics);
    let (mut of_first, mut of_second) = (HashSet::new(), HashSet::new());
    let mut round = 0;
    eventually("each member has some topics", || {
        of_first.clear();
        of_second.clear();
        while let Ok(record) = first.try_recv() {
            of_first.insert(record.topic);
        }
        while let Ok(record) = second.try_recv() {
            of_second.insert(record.topic);
        }
        let is_shared = !of_first.is_empty() && !of_second.is_empty() && of_first.is_disjoint(&of_second);
        round += 1;
        let (subject, topics) = (&subject, &topics);
        async move {
            for topic in topics {
                subject.append_numbers(topic, round..round + 1).await;
            }
            is_shared.then_some(())
        }
    })
    .await;
    stop_second.drain(PATIENCE).await;
    for topic in &topics {
        subject.append_numbers(topic, 1_000_000..1_000_001).await;
    }
    let mut taken_over = HashSet::new();
    while taken_over.len() < topics.len() {
        let record = tokio::time::timeout(PATIENCE, first.recv()).await.unwrap().unwrap();
        if number(&record) == 1_000_000 {
            taken_over.insert(record.topic);
        }
    }
    stop_first.drain(PATIENCE).await;
}

async fn groups_do_not_disturb_each_other(subject: Subject) {
    let topics = [subject.created("device-data").await];
    subject.append_numbers(&topics[0], 0..5).await;
    let mut one = subject.group("one", &topics);
    assert_eq!(read(&mut one, 5).await.len(), 5);
    one.commit().await.unwrap();
    let mut other = subject.group("other", &topics);
    assert_eq!(numbers(&read(&mut other, 5).await), [0, 1, 2, 3, 4]);
}

async fn a_topic_that_is_not_subscribed_to_any_more_is_silent(subject: Subject) {
    let (kept, left) = (subject.created("kept").await, subject.created("left").await);
    let mut group = subject.group("workers", &[kept.clone(), left.clone()]);
    subject.append_numbers(&left, 0..1).await;
    assert_eq!(read(&mut group, 1).await[0].topic, left);
    group.commit().await.unwrap();
    group.subscribe(std::slice::from_ref(&kept)).unwrap();
    let leave = async {
        let mut rounds_without_it = 0;
        while rounds_without_it < 5 {
            subject.append_numbers(&left, 1..2).await;
            subject.append_numbers(&kept, 1..2).await;
            let batch = group.next_batch(100).await.unwrap();
            let is_there = batch.iter().any(|record| record.topic == left);
            rounds_without_it = if is_there { 0 } else { rounds_without_it + 1 };
        }
    };
    tokio::time::timeout(PATIENCE, leave).await.unwrap();
}

async fn reading_can_be_cancelled(subject: Subject) {
    let topics = [subject.created("device-data").await];
    let mut group = subject.group("workers", &topics);
    let (log, topic) = (subject.log.clone(), topics[0].clone());
    subject.tasks.spawn("producer", async move {
        for n in 0..300_u64 {
            log.append(record(&topic, &n.to_string())).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 300 {
        let patience = Duration::from_micros(200 + 17 * seen.len() as u64);
        if let Ok(batch) = tokio::time::timeout(patience, group.next_batch(7)).await {
            seen.extend(numbers(&batch.unwrap()));
        }
    }
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
}
