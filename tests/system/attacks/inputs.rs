//! Texts that some program somewhere takes for something else, at every endpoint and in every place of its request.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Api, Stack, raw, stack::Kind};

use crate::routes::{
    samples::Whose,
    world::{Request, World},
};

/// What is put where a text was.
fn texts() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "'",
        "\"",
        "' OR '1'='1",
        "'; DROP TABLE users; --",
        "\\'; SELECT pg_sleep(9); --",
        "1 UNION SELECT private_key FROM signing_keys",
        "%",
        "_",
        "%_%",
        "\\",
        "$where",
        "{\"$gt\": \"\"}",
        "{{7*7}}",
        "${jndi:ldap://127.0.0.1/a}",
        "$(sleep 9)",
        "`sleep 9`",
        "| sleep 9",
        "../../../../etc/passwd",
        "<script>alert(1)</script>",
        "a\0b",
        "\0",
        "a\r\nSet-Cookie: a=b",
        "\u{1}\u{1f}\u{7f}",
        "\u{202e}txt.exe",
        "\u{feff}",
        "\u{fffd}\u{ffff}",
        "\u{10ffff}",
        "e\u{301}\u{301}\u{301}",
        "İI\u{131}ß",
        "1e400",
        "-1",
        "NaN",
        "9223372036854775808",
        "18446744073709551616",
        "null",
        "true",
        "__proto__",
        "constructor",
        "admin.device-data",
        "*",
        "#",
        "+/+",
        "$share/g/#",
    ]
    .map(str::to_owned)
    .into();
    all.extend(["a".repeat(256), "ä".repeat(5000), "'".repeat(100_000), "(a+)+".repeat(200)]);
    all
}

/// What is put where anything was.
fn values() -> Vec<Value> {
    let mut all: Vec<Value> = texts().into_iter().map(Value::String).collect();
    all.extend([
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!([[]]),
        json!([null]),
        json!({}),
        json!({ "$ne": null }),
        json!({ "": "" }),
    ]);
    all
}

/// A document with each of its members replaced, one at a time, by `value`.
fn variants(document: &Value, value: &Value) -> Vec<Value> {
    let mut all = vec![value.clone()];
    let children: Vec<(String, &Value)> = match document {
        Value::Object(members) => members.iter().map(|(name, child)| (name.clone(), child)).collect(),
        Value::Array(members) => {
            members.iter().enumerate().map(|(place, child)| (place.to_string(), child)).collect()
        }
        _ => return all,
    };
    for (key, child) in children {
        for variant in variants(child, value) {
            let mut changed = document.clone();
            match &mut changed {
                Value::Array(members) => members[key.parse::<usize>().unwrap()] = variant,
                members => members[&key] = variant,
            }
            all.push(changed);
        }
    }
    all
}

/// Bodies that are no JSON, or not quite.
const DOCUMENTS: &[&[u8]] = &[
    b"",
    b"{",
    b"}",
    b"nul",
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"{\"label\": \"\xc3\x28\"}",
    b"{\"a\": 1, \"a\": 2}",
    b"{\"a\": 1}{\"a\": 2}",
    b"{'a': 1}",
    b"[1,]",
    b"{\"a\": \"\\ud800\"}",
    b"{\"a\": \"\\u0000\"}",
    b"1e999",
    b"-",
    b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_body_makes_anything_fail() {
    let stack = start().await;
    let admin = stack.admin().await;
    let world = World::new(&stack, &admin, 0).await;
    let mut count = 0;
    for request in Request::all().iter().filter(|request| !request.sample.body.is_empty()) {
        let by = sender(request, &world, &admin);
        let url = stack.url(&world.path(request));
        let document = world.body(request.sample).unwrap();
        let changed = values().into_iter().flat_map(|value| variants(&document, &value));
        let bodies = changed
            .map(|body| body.to_string().into_bytes())
            .chain(DOCUMENTS.iter().map(|body| body.to_vec()));
        for body in bodies {
            let told = String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
            let answer = send(by, request.method(), &url, body).await;
            check(&format!("{} {url} {told}", request.method()), &answer);
            count += 1;
        }
    }
    println!("{count} bodies");
    still_well(&stack, &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_and_no_query_makes_anything_fail() {
    let stack = start().await;
    let admin = stack.admin().await;
    let world = World::new(&stack, &admin, 0).await;
    let parameters = [
        "page_num",
        "page_size",
        "label",
        "sortBy",
        "attr",
        "attr_type",
        "attrFormat",
        "idsOnly",
        "template",
        "lastN",
        "firstN",
        "hLimit",
        "dateFrom",
        "dateTo",
        "subject",
        "username",
        "path",
        "method",
        "type",
        "permission",
        "name",
        "link",
        "confirm",
        "count",
        "verbose",
        "fields",
        "where",
        "page",
        "limit",
        "token",
        "EIO",
        "transport",
        "sid",
        "ticket",
    ];
    let mut count = 0;
    for request in Request::all() {
        let by = sender(&request, &world, &admin);
        let path = world.path(&request);
        for text in texts() {
            let escaped = raw::escaped(&text);
            let mut targets = Vec::new();
            let segments: Vec<_> = request.door.path.split('/').zip(path.split('/')).collect();
            for place in (0..segments.len()).filter(|place| segments[*place].0.starts_with('{')) {
                let mut changed: Vec<_> = segments.iter().map(|(_, filled)| (*filled).to_owned()).collect();
                changed[place].clone_from(&escaped);
                targets.push(changed.join("/"));
            }
            if request.is_read_only() {
                let all: Vec<_> = parameters.iter().map(|name| format!("{name}={escaped}")).collect();
                let bare = path.split('?').next().unwrap();
                if text.len() < 300 {
                    targets.push(format!("{bare}?{}", all.join("&")));
                }
                // One that is refused hides the others.
                if ["'", "\0", "-1", "9223372036854775808", "{\"$gt\": \"\"}"].contains(&text.as_str()) {
                    targets.extend(all.iter().map(|one| format!("{bare}?{one}")));
                }
            }
            for target in targets.into_iter().filter(|target| target.len() < 30_000) {
                let method = request.endpoint.method.as_str();
                let (status, body) =
                    raw::request(stack.gateway, method, &target, &raw::bearer(&by.token)).await;
                check(&format!("{method} {target:.300}"), &(status, body));
                count += 1;
            }
        }
    }
    println!("{count} targets");
    still_well(&stack, &world).await;
}

/// Failures of logins are not what is counted here.
async fn start() -> Stack {
    let unlimited = ["ACCOUNT_MINUTE", "ACCOUNT_HOUR", "ADDRESS_MINUTE", "ADDRESS_HOUR"]
        .map(|limit| format!("TATAMI_GATEWAY__RATE_LIMIT__{limit}"));
    let settings: Vec<_> = unlimited.iter().map(|key| (key.as_str(), "0")).collect();
    Stack::start_with(Kind::Embedded, &settings).await
}

fn sender<'a>(request: &Request, world: &'a World, admin: &'a Api) -> &'a Api {
    if request.sample.whose == Whose::Platform { admin } else { &world.owner }
}

async fn send(by: &Api, method: Method, url: &str, body: Vec<u8>) -> (u16, String) {
    thread_local! {
        static CLIENT: reqwest::Client = common::testing::client();
    }
    let request = CLIENT.with(|client| client.request(method, url));
    let request = request
        .bearer_auth(&by.token)
        .header("Content-Type", "application/json")
        .timeout(Duration::from_secs(10));
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap_or_default())
}

/// No fault of ours, and nothing of our insides. Mails are off, which 501 says.
fn check(what: &str, (status, body): &(u16, String)) {
    assert!((200..=501).contains(status) && *status != 500, "{what} answered {status}: {body:.500}");
    for inside in ["panicked", "sqlx", "SQLite", "sqlite", "syntax error", "src/", "/root", "RUST_BACKTRACE"]
    {
        assert!(*status < 400 || !body.contains(inside), "{what} shows {inside}: {body:.500}");
    }
}

async fn still_well(stack: &Stack, world: &World) {
    let health = common::testing::client().get(format!("http://{}/health/ready", stack.admin)).send().await;
    assert!(health.unwrap().status().is_success());
    assert_eq!(world.owner.status("/template").await.as_u16(), 200);
}
