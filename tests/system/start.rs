//! Start and footprint of the whole platform.

use std::time::Duration;

use common::testing::eventually;
use system_tests::{Stack, memory::resident_kib, stack::Kind};
use tokio::time::Instant;

#[tokio::test]
async fn it_starts_in_seconds_and_stays_small() {
    let started = Instant::now();
    let stack = Stack::start(Kind::Embedded).await;
    println!("ready after {:?}", started.elapsed());
    let kib = resident_kib(stack.pid("up"));
    println!("resident {kib} KiB");
    assert!(kib < 150 * 1024, "{kib} KiB resident when idle");
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let mut stack = Stack::start(Kind::Embedded).await;
    let api = stack.new_tenant().await;
    let device = api.create_device().await;
    stack.kill_and_restart("up").await;
    stack.ready().await;
    let found = eventually("the device after a restart", || async {
        api.status(&format!("/device/{device}")).await.is_success().then_some(())
    });
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
}
