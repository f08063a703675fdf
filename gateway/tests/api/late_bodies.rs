//! Requests whose head comes while the user may, and whose body ends later.

use std::time::Duration;

use common::{
    http::client::Service,
    testing::{TestEngines, eventually},
};
use gateway::Config;
use tokio::io::AsyncWriteExt;

use crate::support::{Connection, Holder, Stack, config, dead_url, is_announced, status_of};

const CHUNKED: &str = "Transfer-Encoding: chunked";
/// More than the gateway reads before it bothers a service.
const MUCH: usize = 20_000;

/// A body on the wire, in two halves.
struct Halves {
    framing: String,
    first: String,
    second: String,
    /// What the service sees of it.
    whole: String,
}

/// Short bodies, which the gateway reads first, and long ones, which it passes on while they come.
fn all_halves() -> Vec<Halves> {
    let mut all = Vec::new();
    for start in [String::new(), "x".repeat(MUCH)] {
        let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let whole = format!("{start}12345678");
        let length = || format!("Content-Length: {}", whole.len());
        for (framing, first, second) in [
            (length(), format!("{start}1"), "2345678".to_owned()),
            (length(), format!("{start}1234567"), "8".to_owned()),
            (CHUNKED.to_owned(), chunk(&whole), "0\r\n\r\n".to_owned()),
            (CHUNKED.to_owned(), chunk(&format!("{start}1")), chunk("2345678") + "0\r\nX-Last: 1\r\n\r\n"),
        ] {
            all.push(Halves { framing, first, second, whole: whole.clone() });
        }
    }
    all
}

/// Every decision is old at once.
fn impatient() -> Config {
    Config { late_body_ms: 0, ..config() }
}

/// A request whose head was decided about, and whose first half has reached the service if it is long.
async fn begin(stack: &Stack, target: &str, framing: &str, first: &str) -> Connection {
    stack.fake.hold("joe", "permit", 7);
    let mut connection = Connection::to(stack).await;
    let head = format!("POST {target} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer joe\r\n{framing}\r\n\r\n");
    connection.write(&head).await;
    connection.write(first).await;
    eventually("the PDP is asked", async || {
        stack.fake.asked().iter().any(|asked| asked.resource.trim_end_matches('/') == target).then_some(())
    })
    .await;
    if first.len() > MUCH {
        stack.fake.wait_for_head(target).await;
    }
    connection
}

/// Does something to the user or the PDP between both halves, and expects this answer and that no service sees the end.
async fn refused(happens: impl AsyncFn(&Stack), status: u16, message: &str) {
    for stack in Stack::both_with(&impatient()).await {
        let auth = stack.test.engines.client.urls().get(Service::Auth).unwrap();
        for (case, Halves { framing, first, second, .. }) in all_halves().into_iter().enumerate() {
            let target = format!("/device/late/{case}");
            let mut connection = begin(&stack, &target, &framing, &first).await;
            happens(&stack).await;
            connection.write(&second).await;
            let (head, body) = connection.answer().await;
            assert_eq!(status_of(&head), status, "{case}: {head}");
            assert!(body.contains(message), "{case}: {body}");
            assert!(is_announced(&head), "{case}: {head}");
            assert!(connection.closes().await, "{case}");
            // A service that was not asked yet may never hear of it.
            if first.len() > MUCH {
                stack.fake.wait_for_break(&target).await;
            }
            stack.test.engines.client.urls().set(Service::Auth, auth.clone());
        }
        assert_eq!(stack.fake.seen().len(), 0, "no service takes it for a whole body");
        assert_eq!(stack.get("/device").await, 200, "everybody else is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_body_passes_unchanged_while_the_user_may() {
    for stack in Stack::both_with(&impatient()).await {
        for (case, Halves { framing, first, second, whole }) in all_halves().into_iter().enumerate() {
            let target = format!("/device/late/{case}");
            let before = stack.fake.asked().len();
            let mut connection = begin(&stack, &target, &framing, &first).await;
            connection.write(&second).await;
            let (head, _) = connection.answer().await;
            assert_eq!(status_of(&head), 200, "{case}: {head}");
            assert!(!is_announced(&head), "{case}: {head}");
            let seen = stack.fake.last();
            assert_eq!((seen.target.as_str(), &*seen.body), (target.as_str(), whole.as_bytes()));
            let asked = stack.fake.asked().split_off(before);
            assert_eq!(asked.len(), 2, "{case}: {asked:?}");
            assert!(asked[1].fresh && !asked[0].fresh, "{case}: {asked:?}");
            assert_eq!(
                (&asked[0].jwt, &asked[0].action, &asked[0].resource),
                (&asked[1].jwt, &asked[1].action, &asked[1].resource)
            );
            // The connection can be used again.
            connection.write("GET /device HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer good\r\n\r\n").await;
            assert_eq!(status_of(&connection.answer().await.0), 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_before_the_end_is_not_obeyed() {
    refused(async |stack| stack.fake.revoke("joe"), 401, "Invalid signature").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_any_more_at_the_end_is_not_obeyed() {
    refused(async |stack| stack.fake.hold("joe", "deny", 7), 403, "Forbidden").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_for_another_user_of_the_name_is_not_obeyed() {
    refused(async |stack| stack.fake.hold("joe", "permit", 8), 401, "Unauthorized").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_for_another_tenant_is_not_obeyed() {
    let moves = async |stack: &Stack| {
        let expires_s = stack.test.engines.clock.now_s() + 3600;
        let holder = Holder { decision: "permit", tenant: "next", user_id: 7, expires_s };
        stack.fake.hold_until("joe", holder);
    };
    refused(moves, 401, "Unauthorized").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_decision_at_the_end_the_answer_is_no() {
    let leaves = async |stack: &Stack| {
        stack.test.engines.client.urls().set(Service::Auth, dead_url().await);
    };
    refused(leaves, 503, "policy decision point").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_held_back_while_the_decision_is_open() {
    for stack in Stack::both_with(&impatient()).await {
        for (case, Halves { framing, first, second, .. }) in all_halves().into_iter().enumerate() {
            let target = format!("/device/late/{case}");
            let mut connection = begin(&stack, &target, &framing, &first).await;
            let before = stack.fake.asked().len();
            stack.fake.hold_answers();
            connection.write(&second).await;
            eventually("the PDP is asked again", async || (stack.fake.asked().len() > before).then_some(()))
                .await;
            // The client leaves, and nothing that was held back is let go because of that.
            drop(connection);
            // What comes before trailers is not the end, and goes ahead.
            if first.len() > MUCH || second.contains("X-Last") {
                stack.fake.wait_for_break(&target).await;
            } else {
                assert!(!stack.fake.has_begun(&target), "what is its own end is held back as a whole");
            }
            stack.fake.release_answers();
        }
        // A short one was complete when its client left.
        assert!(stack.fake.seen().iter().all(|seen| seen.body.len() < MUCH));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_at_once_costs_one_question() {
    // The longest that is allowed, so that a busy machine does not count as a slow client.
    let config = Config { late_body_ms: 1000, decision_cache_entries: 0, ..config() };
    for stack in Stack::both_with(&config).await {
        for (case, Halves { framing, first, second, whole }) in all_halves().into_iter().enumerate() {
            let before = stack.fake.asked().len();
            let mut connection = Connection::to(&stack).await;
            let head = format!("POST /device/{case} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer good\r\n");
            connection.write(&format!("{head}{framing}\r\n\r\n{first}{second}")).await;
            assert_eq!(status_of(&connection.answer().await.0), 200, "{case}");
            assert_eq!(&*stack.fake.last().body, whole.as_bytes());
            assert_eq!(stack.fake.asked().len(), before + 1, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_body_and_without_a_token_are_not_asked_about_again() {
    for stack in Stack::both_with(&impatient()).await {
        let before = stack.fake.asked().len();
        assert_eq!(stack.get("/device").await, 200);
        assert_eq!(
            stack.plain("POST", "/device/x", "Authorization: Bearer good\r\nContent-Length: 0\r\n").await.0,
            200
        );
        assert_eq!(stack.fake.asked().len(), before + 2);
        let mut connection = Connection::to(&stack).await;
        connection.write("POST /auth/ HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}").await;
        assert_eq!(status_of(&connection.answer().await.0), 200);
        assert_eq!(stack.fake.asked().len(), before + 2, "login is public");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_drips_is_not_waited_for() {
    for mut test in TestEngines::both().await {
        test.engines.http.request_timeout_ms = 500;
        let stack = Stack::start(test, config()).await;
        for (framing, drop) in [("Content-Length: 1000000", "x"), (CHUNKED, "1\r\nx\r\n")] {
            let target = format!("/device/drip-{}", drop.len());
            let mut connection = begin(&stack, &target, framing, drop).await;
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            let drip = async {
                loop {
                    tokio::select! {
                        _ = beat.tick() => connection.stream.write_all(drop.as_bytes()).await.unwrap(),
                        answered = connection.stream.readable() => return answered,
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), drip).await.expect("the gateway ends it").unwrap();
            let (head, body) = connection.answer().await;
            assert_eq!(status_of(&head), 408, "{head}");
            assert_eq!(body, r#"{"message":"the body took too long"}"#);
            assert!(is_announced(&head), "{head}");
            assert!(!stack.fake.has_begun(&target), "no service was bothered");
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}
