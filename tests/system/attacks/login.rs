//! What a login tells to whoever does not know the password.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use system_tests::{Stack, api::fresh, stack::Kind};

async fn log_in(stack: &Stack, username: &str, password: &str) -> (u16, HeaderMap, Value) {
    let request = common::testing::client().post(stack.url("/auth"));
    let answer = request.json(&json!({ "username": username, "passwd": password })).send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_and_a_wrong_password_take_the_same_time() {
    const ROUNDS: usize = 21;
    let unlimited = ["ACCOUNT_MINUTE", "ACCOUNT_HOUR", "ADDRESS_MINUTE", "ADDRESS_HOUR"]
        .map(|limit| format!("TATAMI_GATEWAY__RATE_LIMIT__{limit}"));
    let settings: Vec<_> = unlimited.iter().map(|key| (key.as_str(), "0")).collect();
    let stack = Stack::start_with(Kind::Embedded, &settings).await;
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does meets both.
    for round in 0..ROUNDS {
        for (username, expected, times) in
            [(fresh("nobody"), 401, &mut unknown), ("admin".to_owned(), 403, &mut wrong)]
        {
            let started = Instant::now();
            let (status, headers, body) = log_in(&stack, &username, &format!("wrong {round}")).await;
            times.push(started.elapsed());
            assert_eq!(status, expected, "{body}");
            // dojot's two codes and words, and nothing else that differs.
            let message = if expected == 401 { "AuthenticationError" } else { "AuthorizationError" };
            assert_eq!(body, json!({ "message": message, "status": expected }));
            let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            assert_eq!(names, ["content-length", "content-type", "date", "x-request-id"], "{username}");
        }
    }
    let (unknown, wrong) = (median(unknown), median(wrong));
    println!("unknown user {unknown:?}, wrong password {wrong:?}");
    assert!(wrong > Duration::from_millis(5), "a check that costs nothing is worth nothing");
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    assert!((0.67..1.5).contains(&ratio), "unknown user {unknown:?}, wrong password {wrong:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The contract's 429 (dojot-api.md 1.4), and everybody else behind the same address.
#[tokio::test(flavor = "multi_thread")]
async fn who_fails_too_often_is_out_and_the_others_are_not() {
    let stack = Stack::start_with(
        Kind::Embedded,
        &[
            ("TATAMI_GATEWAY__RATE_LIMIT__ACCOUNT_MINUTE", "5"),
            ("TATAMI_GATEWAY__RATE_LIMIT__ACCOUNT_HOUR", "40"),
            ("TATAMI_AUTH__USER_INITIAL_PASSWORD", "the first password"),
        ],
    )
    .await;
    let admin = stack.admin().await;
    let (victim, other) = (fresh("victim"), fresh("other"));
    for username in [&victim, &other] {
        let user = json!({
            "username": username, "service": "behindone", "email": format!("{username}@example.com"), "name": "N", "profile": "user",
        });
        admin.post("/auth/user", user).await;
    }
    for failures in 0..5 {
        // Other writings of the name are the same account.
        let name = if failures % 2 == 0 { victim.clone() } else { victim.to_uppercase() };
        assert_eq!(log_in(&stack, &name, "wrong").await.0, 403);
    }
    for password in ["wrong", "the first password"] {
        let (status, headers, body) = log_in(&stack, &victim, password).await;
        assert_eq!((status, &body), (429, &json!({ "message": "API rate limit exceeded" })));
        let header = |name: &str| headers[name].to_str().unwrap().parse::<u32>().unwrap();
        let limits = [
            ("ratelimit-limit", 5..=5),
            ("ratelimit-remaining", 0..=0),
            ("ratelimit-reset", 1..=60),
            ("x-ratelimit-limit-minute", 5..=5),
            ("x-ratelimit-remaining-minute", 0..=0),
            ("x-ratelimit-limit-hour", 40..=40),
            ("x-ratelimit-remaining-hour", 35..=35),
            ("retry-after", 1..=60),
        ];
        for (name, expected) in limits {
            assert!(expected.contains(&header(name)), "{name}: {}", header(name));
        }
    }
    for _ in 0..7 {
        let (status, _, body) = log_in(&stack, &other, "the first password").await;
        assert_eq!(status, 200, "{body}");
    }
    // Somebody who does not exist has a budget too: 429 says nothing about who is there.
    let nobody = fresh("nobody");
    for _ in 0..5 {
        assert_eq!(log_in(&stack, &nobody, "wrong").await.0, 401);
    }
    assert_eq!(log_in(&stack, &nobody, "wrong").await.0, 429);
}
