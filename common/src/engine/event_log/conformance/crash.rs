//! What the embedded log promises when its process or its disk fails.

use std::{io::Write, process::Stdio};

use sqlx::{Connection, SqliteConnection};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::*;

const TEST: &str = "engine::event_log::conformance::crash::kill_9_loses_nothing_that_was_acknowledged";
const DIRECTORY: &str = "TATAMI_TEST_CRASH_DIRECTORY";
const TOPIC: &str = "crash.device-data";

/// Keeps the writer from the database until it is dropped, as an operator's tool could.
pub(super) async fn hold_the_database(subject: &Subject) -> SqliteConnection {
    let file = subject.directory.as_ref().unwrap().path().join("log.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_that_cannot_be_written() {
    let subject = Subject::embedded().await;
    let topic = subject.created("device-data").await;
    let stuck = hold_the_database(&subject).await;
    let refused = subject.log.append(record(&topic, "lost")).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert!(subject.log.check().await.is_err());
    drop(stuck);
    eventually("writing works again", || async { subject.log.append(record(&topic, "kept")).await.ok() })
        .await;
    subject.log.check().await.unwrap();
    let mut group = subject.group("reader", &[topic]);
    let records = read(&mut group, 1).await;
    assert_eq!((text(&records[0]), records[0].offset), ("kept", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_used_by_one_process_at_a_time() {
    let subject = Subject::embedded().await;
    let settings = EmbeddedLogSettings { queue_bytes: 1 << 20 };
    let path = subject.directory.as_ref().unwrap().path();
    let second = EmbeddedLog::open(path, &settings, Clock::system()).await;
    assert!(matches!(second, Err(LogError::Unavailable(_))));
}

/// The other half of the next test, in a process of its own.
async fn append_until_killed(directory: &str) {
    struct Printer;
    impl DeliverySink for Printer {
        fn delivered(&self, number: u64, result: Result<Position, LogError>) {
            let line = format!("acknowledged {number} {}\n", result.unwrap().offset);
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
    let settings = EmbeddedLogSettings { queue_bytes: 1 << 20 };
    let log = EmbeddedLog::open(directory.as_ref(), &settings, Clock::system()).await.unwrap();
    let topic = Topic::parse(TOPIC).unwrap();
    let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: -1 };
    log.create_topic(&topic, profile).await.unwrap();
    let printer = Arc::new(Printer);
    for number in 0.. {
        let sink = Arc::clone(&printer) as Arc<dyn DeliverySink>;
        log.produce(record(&topic, &number.to_string()), Delivery::new(sink, number)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the parent tells its child where")]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return append_until_killed(&directory).await;
    }
    let mut subject = Subject::embedded().await;
    for round in 0..3 {
        let directory = subject.directory.clone().unwrap();
        drop(subject.log);
        let acknowledged = killed_while_appending(&directory, 2000 << round).await;
        subject.log = open(&directory, 1 << 20, &Clock::system()).await;
        let stored = everything(&subject).await;
        for (index, record) in stored.iter().enumerate() {
            assert_eq!(record.offset, index as i64, "offsets follow on each other");
        }
        for (number_, offset) in &acknowledged {
            assert_eq!(number(&stored[*offset as usize]), *number_, "at its offset, and nowhere else");
        }
        // What was stored without being acknowledged is less than what was on its way.
        let next = subject.append(&Topic::parse(TOPIC).unwrap(), "0").await;
        assert_eq!(next.offset, stored.len() as i64, "offsets go on");
    }
}

/// Starts the child and kills it when it has acknowledged so many records. Returns what it acknowledged, as number
/// and offset.
async fn killed_while_appending(directory: &TempDir, enough: usize) -> Vec<(u64, i64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The test harness prints lines of its own; the kill may cut the last one.
        if let ["acknowledged", number, offset] = words[..] {
            acknowledged.push((number.parse().unwrap(), offset.parse().unwrap()));
            if acknowledged.len() == enough {
                child.start_kill().unwrap();
            }
        }
    }
    child.wait().await.unwrap();
    assert!(acknowledged.len() >= enough);
    // The kill may have cut the last line in the middle of a number.
    acknowledged.truncate(acknowledged.len() - 1);
    acknowledged
}

async fn everything(subject: &Subject) -> Vec<Record> {
    let tail = subject.log.tail().unwrap();
    let ends = tail.add(&Topic::parse(TOPIC).unwrap(), super::super::Start::At(0)).await.unwrap();
    read_tail(&tail, ends[0].1 as usize).await
}
