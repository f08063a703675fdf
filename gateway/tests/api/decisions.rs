//! What the PDP said is remembered, and forgotten when it may not hold any more.

use common::testing::eventually;

use crate::support::{Holder, Stack, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_asked_for_once_per_token_method_and_path() {
    for stack in Stack::both().await {
        stack.wait_for_cache().await;
        stack.fake.hold("other", "permit", 9);
        let asked = async |method: &str, path: &str, token: &str| {
            let before = stack.fake.asked().len();
            stack.plain(method, path, &format!("Authorization: Bearer {token}\r\n")).await;
            stack.fake.asked().len() - before
        };
        assert_eq!(asked("GET", "/device/1", "good").await, 1);
        assert_eq!(asked("GET", "/device/1", "good").await, 0);
        assert_eq!(asked("GET", "/device/%31?x=y", "good").await, 0, "the same path and method");
        assert_eq!(asked("GET", "/device/2", "good").await, 1);
        assert_eq!(asked("PUT", "/device/1", "good").await, 1);
        assert_eq!(asked("GET", "/device/1", "other").await, 1);
        assert_eq!(asked("GET", "/device/1", "denied").await, 1);
        assert_eq!(asked("GET", "/device/1", "denied").await, 0, "a no is remembered too");
        assert_eq!(asked("GET", "/device/1", "unknown").await, 1);
        assert_eq!(asked("GET", "/device/1", "unknown").await, 1, "bad tokens are not");
        assert_eq!(stack.fake.last().caller.unwrap().user_id, 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_user_is_out_at_once_and_the_others_are_not() {
    for stack in Stack::both().await {
        // Other tests share the topic on the real log, so these users are of this test only.
        let user = i64::from(std::process::id()) * 1000 + i64::from(stack.addr.port());
        stack.fake.hold("joe", "permit", user);
        let joe = async || stack.plain("GET", "/device/joe", "Authorization: Bearer joe\r\n").await.0;
        stack.wait_for_cache().await;
        assert_eq!(joe().await, 200);
        let before = stack.fake.asked().len();
        assert_eq!(joe().await, 200);
        assert_eq!(stack.fake.asked().len(), before);
        stack.fake.revoke("joe");
        assert_eq!(joe().await, 200, "remembered");
        stack.announce(Some(user)).await;
        eventually("joe is out", async || (joe().await == 401).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_permission_concerns_everybody() {
    for stack in Stack::both().await {
        stack.wait_for_cache().await;
        assert_eq!(stack.get("/device/x").await, 200);
        stack.fake.hold("good", "deny", 7);
        stack.announce(None).await;
        eventually("the new decision is used", async || (stack.get("/device/x").await == 403).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_overtaken_by_a_revocation_is_not_remembered() {
    for stack in Stack::both().await {
        let user = i64::from(std::process::id()) * 1000 + i64::from(stack.addr.port());
        stack.fake.hold("joe", "permit", user);
        stack.fake.hold("canary", "permit", user);
        let get = async |token: &str| {
            stack.plain("GET", "/device/late", &format!("Authorization: Bearer {token}\r\n")).await.0
        };
        stack.wait_for_cache().await;
        assert_eq!(get("canary").await, 200);
        // The PDP has decided, but its answer is still on its way ...
        stack.fake.hold_answers();
        let late = get("joe");
        let overtaken = async {
            eventually("the PDP is asked", async || {
                stack.fake.asked().iter().any(|asked| asked.jwt == "joe").then_some(())
            })
            .await;
            // ... when the user is revoked.
            stack.fake.revoke("joe");
            stack.fake.revoke("canary");
            stack.announce(Some(user)).await;
            let before = stack.fake.asked().len();
            eventually("the revocation has arrived", async || {
                // A remembered permit is answered at once; after the revocation the question hangs at the PDP.
                let answer = tokio::time::timeout(std::time::Duration::from_millis(200), get("canary")).await;
                (answer.is_err() || stack.fake.asked().len() > before).then_some(())
            })
            .await;
            stack.fake.release_answers();
        };
        let (status, ()) = tokio::join!(late, overtaken);
        assert_eq!(status, 200, "it was decided before");
        assert_eq!(get("joe").await, 401, "but it was not remembered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_does_not_outlive_the_token() {
    for stack in Stack::both().await {
        stack.wait_for_cache().await;
        let expires_s = stack.test.engines.clock.now_s() + 2;
        stack.fake.hold_until("short", Holder { decision: "permit", tenant: "admin", user_id: 7, expires_s });
        let get = async || stack.plain("GET", "/device/short", "Authorization: Bearer short\r\n").await.0;
        assert_eq!(get().await, 200);
        eventually("the token has expired", async || (get().await == 401).then_some(())).await;
        assert!(stack.test.engines.clock.now_s() >= expires_s);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_every_request_is_asked_for() {
    for stack in Stack::both_with(&gateway::Config { decision_cache_entries: 0, ..config() }).await {
        let before = stack.fake.asked().len();
        for _ in 0..5 {
            assert_eq!(stack.get("/device").await, 200);
        }
        assert_eq!(stack.fake.asked().len(), before + 5);
    }
}
