//! Failed logins are counted per account and address.

use futures_util::future::join_all;
use gateway::config::RateLimits;

use crate::support::{Stack, config, status_of};

fn limited(account_minute: u32, address_minute: u32) -> gateway::Config {
    let rate_limit = RateLimits { account_minute, account_hour: 50, address_minute, address_hour: 1000 };
    gateway::Config { rate_limit, ..config() }
}

/// The whole answer to a login, in lower case.
async fn log_in(stack: &Stack, user: &str, password: &str, headers: &str) -> String {
    let body = format!(r#"{{"username": "{user}", "passwd": "{password}"}}"#);
    let length = body.len();
    let head =
        format!("POST /auth HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}Content-Length: {length}");
    stack.raw(format!("{head}\r\nContent-Type: application/json\r\n\r\n{body}")).await.to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_too_often_has_to_wait_and_others_do_not() {
    for stack in Stack::both_with(&limited(3, 100)).await {
        for left in ["2", "1", "0"] {
            let answer = log_in(&stack, "Joe", "wrong", "").await;
            assert_eq!(status_of(&answer), 403, "{answer}");
            assert!(answer.contains(&format!("\r\nratelimit-remaining: {left}\r\n")), "{answer}");
            // Who knows the password of another account is not concerned, and costs nothing.
            assert_eq!(status_of(&log_in(&stack, "ann", "right", "").await), 200);
        }
        let seen = stack.fake.seen().len();
        let answer = log_in(&stack, "joe", "right", "").await;
        assert_eq!(status_of(&answer), 429, "the case of a name does not matter: {answer}");
        for part in [
            r#"{"message":"api rate limit exceeded"}"#,
            "\r\nratelimit-limit: 3\r\n",
            "\r\nratelimit-remaining: 0\r\n",
            "\r\nx-ratelimit-limit-minute: 3\r\n",
            "\r\nx-ratelimit-remaining-minute: 0\r\n",
            "\r\nx-ratelimit-limit-hour: 50\r\n",
            "\r\nx-ratelimit-remaining-hour: 47\r\n",
        ] {
            assert!(answer.contains(part), "{part} is not in {answer}");
        }
        for header in ["retry-after: ", "ratelimit-reset: "] {
            let after = answer.split(header).nth(1).and_then(|rest| rest.lines().next());
            let seconds: u32 = after.and_then(|text| text.parse().ok()).unwrap();
            assert!((1..=60).contains(&seconds), "{answer}");
        }
        assert_eq!(stack.fake.seen().len(), seen, "auth is not asked");
        assert_eq!(status_of(&log_in(&stack, "ann", "right", "").await), 200);
        assert_eq!(status_of(&log_in(&stack, "ann", "wrong", "").await), 403);
        assert_eq!(
            stack.fake.last().body,
            r#"{"username": "ann", "passwd": "wrong"}"#,
            "the body arrives whole"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_at_once_is_no_way_round() {
    for stack in Stack::both_with(&limited(3, 100)).await {
        let all = join_all((0..30).map(|_| log_in(&stack, "joe", "wrong", ""))).await;
        let refused = all.iter().filter(|answer| status_of(answer) == 403).count();
        let limited = all.iter().filter(|answer| status_of(answer) == 429).count();
        assert_eq!((refused, limited), (3, 27));
        assert_eq!(stack.fake.seen().len(), 3, "auth saw no more");
        let all = join_all((0..30).map(|_| log_in(&stack, "ann", "right", ""))).await;
        assert!(all.iter().all(|answer| status_of(answer) == 200), "nobody is refused for logging in often");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_larger_budget_of_its_own() {
    for stack in Stack::both_with(&limited(3, 5)).await {
        for user in ["a", "b", "c", "d", "e"] {
            assert_eq!(status_of(&log_in(&stack, user, "wrong", "").await), 403);
        }
        let answer = log_in(&stack, "f", "right", "").await;
        assert_eq!(status_of(&answer), 429);
        assert!(answer.contains("\r\nratelimit-limit: 5\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_told_apart_behind_a_trusted_proxy_only() {
    for stack in Stack::both_with(&limited(1, 100)).await {
        let from = async |address: &str, password| {
            let headers = format!("X-Forwarded-For: {address}\r\nForwarded: for={address}\r\n");
            status_of(&log_in(&stack, "joe", password, &headers).await)
        };
        assert_eq!(from("192.0.2.1", "wrong").await, 403);
        assert_eq!(from("192.0.2.2", "right").await, 429, "anybody can write a header");
    }
    let trusting =
        gateway::Config { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..limited(1, 100) };
    for stack in Stack::both_with(&trusting).await {
        let from = async |addresses: &str, password| {
            let headers = format!("X-Forwarded-For: {addresses}\r\nForwarded: for=198.51.100.1\r\n");
            status_of(&log_in(&stack, "joe", password, &headers).await)
        };
        assert_eq!(from("192.0.2.1", "wrong").await, 403);
        assert_eq!(stack.fake.last().headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(
            from("203.0.113.9, 192.0.2.1", "right").await,
            429,
            "what the client wrote before does not count"
        );
        assert_eq!(from("192.0.2.2", "right").await, 200);
        assert!(!stack.fake.last().headers.contains_key("forwarded"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_logins_are_counted_too_and_large_ones_refused() {
    for stack in Stack::both_with(&limited(3, 100)).await {
        let answer = log_in(&stack, &"x".repeat(20_000), "right", "").await;
        assert_eq!(status_of(&answer), 413, "{answer}");
        assert_eq!(stack.fake.seen().len(), 0);
        // Nobody is named, so all of them together are one account.
        let odd = |body: &str| {
            format!(
                "POST /auth HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        for body in [r#"["wrong"]"#, r#"{"username": 7, "passwd": "wrong"}"#, r#"{"passwd": "wrong"}"#] {
            assert_eq!(status_of(&stack.raw(odd(body)).await), 403, "{body}");
        }
        assert_eq!(status_of(&stack.raw(odd("{}")).await), 429);
        assert_eq!(status_of(&log_in(&stack, "joe", "right", "").await), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_by_graphql_have_the_same_budget() {
    const LOGIN: &str = "mutation($u: String, $p: String) { login(username: $u, passwd: $p) { jwt } }";
    let graphql = async |stack: &Stack, query: &str, user: &str, password: &str| {
        let body =
            serde_json::json!({ "query": query, "variables": { "u": user, "p": password } }).to_string();
        let head =
            "POST /graphql-auth/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: application/json";
        let length = body.len();
        stack.raw(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}")).await.to_lowercase()
    };
    for stack in Stack::both_with(&limited(3, 100)).await {
        for left in ["2", "1"] {
            let answer = graphql(&stack, LOGIN, "Joe", "wrong").await;
            assert_eq!(status_of(&answer), 200, "{answer}");
            assert!(answer.ends_with(r#"{"data":{"login":null}}"#), "{answer}");
            assert!(answer.contains(&format!("\r\nratelimit-remaining: {left}\r\n")), "{answer}");
            assert!(!answer.contains("x-tatami-"), "what services tell the gateway stays here: {answer}");
            // Somebody else, and nobody.
            assert_eq!(status_of(&graphql(&stack, LOGIN, "ann", "right").await), 200);
            assert_eq!(status_of(&graphql(&stack, "{ none }", "joe", "right").await), 200);
        }
        assert_eq!(status_of(&log_in(&stack, "joe", "wrong", "").await), 403, "one is left");
        let seen = stack.fake.seen().len();
        for user in ["joe", "JOE"] {
            let answer = graphql(&stack, LOGIN, user, "right").await;
            assert_eq!(status_of(&answer), 429, "{answer}");
            assert_eq!(status_of(&log_in(&stack, user, "right", "").await), 429);
        }
        let written = r#"mutation { login(username: "joe", passwd: "right") { jwt } }"#;
        assert_eq!(
            status_of(&graphql(&stack, written, "ann", "right").await),
            429,
            "variables do not hide it"
        );
        assert_eq!(stack.fake.seen().len(), seen, "auth is not asked");
        assert_eq!(status_of(&graphql(&stack, LOGIN, "ann", "right").await), 200);
        assert_eq!(status_of(&graphql(&stack, LOGIN, "ann", &"x".repeat(20_000)).await), 413);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_counted_by_token() {
    for stack in Stack::both_with(&limited(2, 100)).await {
        let update = async |token: &str, password: &str| {
            let body = format!(r#"{{"oldpasswd": "{password}"}}"#);
            let head = format!(
                "POST /auth/password/update HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {token}"
            );
            let length = body.len();
            let answer = stack.raw(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}")).await;
            status_of(&answer)
        };
        assert_eq!(update("one", "wrong").await, 403);
        assert_eq!(update("one", "wrong").await, 403);
        assert_eq!(update("one", "right").await, 429);
        assert_eq!(update("two", "right").await, 200);
    }
}
