//! Requests that end in two places, and loads that are larger than they look (targets: R14).
//!
//! The gateway's own tests have these pairs against a service that notes everything it sees
//! (`gateway/tests/api/smuggling.rs`); here a second request that got through would leave a template.

use std::{fmt::Write, time::Duration};

use reqwest::Method;
use serde_json::json;
use system_tests::{
    Api, Stack,
    memory::Memory,
    raw::{bearer, exchange, status_of},
    stack::Kind,
};

use crate::routes::world::{Request, World};

/// The most that any of this may cost, in KiB (targets: R14).
const MOST_KIB: u64 = 64 * 1024;

/// What somebody sends in the name of whoever comes next on a connection to a service.
fn hidden(api: &Api) -> String {
    let body = r#"{"label":"smuggled","attrs":[]}"#;
    format!(
        "POST /template HTTP/1.1\r\nHost: t\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        bearer(&api.token),
        body.len()
    )
}

/// Name, the head after the token, and the body. `{hidden}`, `{length}` of it, and `{chunk}`: an end and then it.
const PAIRS: &[(&str, &str, &str)] = &[
    ("CL.TE", "Content-Length: {chunk-length}\r\nTransfer-Encoding: chunked", "{chunk}"),
    ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4", "{chunk}"),
    ("CL.0", "Content-Length: 0\r\nTransfer-Encoding: chunked", "{chunk}"),
    ("two lengths", "Content-Length: 0\r\nContent-Length: {length}", "{hidden}"),
    ("two lengths the other way", "Content-Length: {length}\r\nContent-Length: 0", "{hidden}"),
    ("two equal lengths and a list", "Content-Length: 0, 0", "{hidden}"),
    ("a list of lengths", "Content-Length: 0,{length}", "{hidden}"),
    ("a signed length", "Content-Length: +0", "{hidden}"),
    ("a negative length", "Content-Length: -0", "{hidden}"),
    ("a hexadecimal length", "Content-Length: 0x0", "{hidden}"),
    ("a fraction", "Content-Length: 0.0", "{hidden}"),
    ("an exponent", "Content-Length: 0e9", "{hidden}"),
    ("a length that overflows", "Content-Length: 18446744073709551616", "{hidden}"),
    ("a length with a space within", "Content-Length: 0 {length}", "{hidden}"),
    ("an empty length", "Content-Length: ", "{hidden}"),
    ("a length with a tab before the colon", "Content-Length\t: {length}", "{hidden}"),
    ("TE: chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "{chunk}"),
    ("TE: chunked, chunked", "Transfer-Encoding: chunked, chunked", "{chunk}"),
    ("TE: chunked, identity", "Transfer-Encoding: chunked, identity", "{chunk}"),
    ("TE: identity", "Transfer-Encoding: identity\r\nContent-Length: 0", "{hidden}"),
    ("TE: gzip, chunked", "Transfer-Encoding: gzip, chunked", "{chunk}"),
    ("TE: xchunked", "Transfer-Encoding: xchunked\r\nContent-Length: 0", "{chunk}"),
    ("TE: CHUNKED and a length", "Transfer-Encoding: CHUNKED\r\nContent-Length: 0", "{chunk}"),
    ("TE: \"chunked\"", "Transfer-Encoding: \"chunked\"\r\nContent-Length: 0", "{chunk}"),
    ("TE: chunked;q=1", "Transfer-Encoding: chunked;q=1\r\nContent-Length: 0", "{chunk}"),
    ("TE: nothing", "Transfer-Encoding: \r\nContent-Length: 0", "{chunk}"),
    ("TE after a vertical tab", "Transfer-Encoding: \u{b}chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE after a form feed", "Transfer-Encoding:\u{c}chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE with a space before the colon", "Transfer-Encoding : chunked\r\nContent-Length: 0", "{chunk}"),
    (
        "TE with an underline",
        "Transfer_Encoding: chunked\r\nContent-Length: {chunk-length}\r\nTransfer-Encoding: chunked",
        "{chunk}",
    ),
    ("TE that is folded", "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE folded in itself", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE after a bare CR", "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE after a bare LF", "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE after a NUL", "X: y\0Transfer-Encoding: chunked\r\nContent-Length: 0", "{chunk}"),
    ("TE with a NUL", "Transfer-Encoding: chunked\0\r\nContent-Length: 0", "{chunk}"),
    ("a chunk size that is none", "Transfer-Encoding: chunked", "zz\r\n{hidden}"),
    ("a chunk size that overflows", "Transfer-Encoding: chunked", "10000000000000000\r\n{hidden}"),
    ("a chunk size with a sign", "Transfer-Encoding: chunked", "+0\r\n\r\n{hidden}"),
    ("a chunk size with a prefix", "Transfer-Encoding: chunked", "0x0\r\n\r\n{hidden}"),
    ("a chunk without its end", "Transfer-Encoding: chunked", "1\r\nab{hidden}"),
    ("a chunk that ends with LF", "Transfer-Encoding: chunked", "1\r\na\n0\n\n{hidden}"),
    ("an extension with a LF", "Transfer-Encoding: chunked", "0;a=\nb\r\n\r\n{hidden}"),
    ("an extension with a CR", "Transfer-Encoding: chunked", "0;a=\rb\r\n\r\n{hidden}"),
    ("two hosts", "Host: u\r\nContent-Length: 0", "{hidden}"),
    ("a colon alone", ": x\r\nContent-Length: 0", "{hidden}"),
    ("a line without a colon", "Content-Length 0\r\nX: y", "{hidden}"),
    (
        "a premature websocket",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: {length}",
        "{hidden}",
    ),
    (
        "a premature h2c",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nTransfer-Encoding: chunked",
        "{chunk}",
    ),
];

/// The same, where it is the line of the request that is odd. `{bearer}` is a line with a token.
const LINES: &[(&str, &str)] = &[
    (
        "HTTP/1.0 and TE",
        "POST /template HTTP/1.0\r\nConnection: keep-alive\r\n{bearer}Transfer-Encoding: chunked\r\n\r\n{chunk}",
    ),
    (
        "HTTP/1.0, TE and CL",
        "POST /template HTTP/1.0\r\nConnection: keep-alive\r\n{bearer}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}",
    ),
    ("HTTP/0.9", "GET /template\r\n{hidden}"),
    ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}"),
    ("HTTP/2 without a preface", "GET /template HTTP/2\r\nHost: t\r\n\r\n{hidden}"),
    ("HTTP/9.9", "GET /template HTTP/9.9\r\nHost: t\r\n\r\n{hidden}"),
    ("TLS", "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}{hidden}"),
    ("no host", "POST /template HTTP/1.1\r\n{bearer}Content-Length: 0\r\n\r\n{hidden}"),
    (
        "a space in the path",
        "POST /template /x HTTP/1.1\r\nHost: t\r\n{bearer}Content-Length: 0\r\n\r\n{hidden}",
    ),
    (
        "a method with a colon",
        "PO:ST /template HTTP/1.1\r\nHost: t\r\n{bearer}Content-Length: 0\r\n\r\n{hidden}",
    ),
    ("a PROXY line", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n{hidden}"),
    (
        "a space before the method",
        " POST /template HTTP/1.1\r\nHost: t\r\n{bearer}Content-Length: 0\r\n\r\n{hidden}",
    ),
    ("CONNECT", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: t\r\n{bearer}\r\n{hidden}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_ends_in_two_places_is_the_last_of_its_connection() {
    let stack = Stack::start(Kind::Embedded).await;
    let api = stack.new_tenant().await;
    let (hidden, bearer) = (hidden(&api), bearer(&api.token));
    let chunk = format!("0\r\n\r\n{hidden}");
    let (length, chunk_length) = (hidden.len().to_string(), chunk.len().to_string());
    let fill = |text: &str| {
        let text = text.replace("{chunk-length}", &chunk_length).replace("{length}", &length);
        text.replace("{bearer}", &bearer).replace("{chunk}", &chunk).replace("{hidden}", &hidden)
    };
    let with_head = |(name, head, body): &(&'static str, &str, &str)| {
        let head = format!("POST /nowhere HTTP/1.1\r\nHost: t\r\n{bearer}{head}\r\n\r\n{body}");
        (*name, head)
    };
    // Refused in different places: where there is no route, where there is one, and where nobody is asked.
    let mut all: Vec<(&str, String)> = Vec::new();
    for path in ["/nowhere", "/device", "/auth"] {
        all.extend(
            PAIRS.iter().map(with_head).map(|(name, text)| (name, text.replacen("/nowhere", path, 1))),
        );
    }
    all.extend(LINES.iter().map(|(name, text)| (*name, (*text).to_owned())));
    println!("{} pairs", all.len());
    for (name, text) in &all {
        let answer = exchange(stack.gateway, fill(text).as_bytes()).await;
        assert!(answer.matches("HTTP/1.").count() <= 1, "{name}: two answers: {answer}");
        let status = status_of(&answer);
        assert!(status == 0 || (400..500).contains(&status) || status == 505, "{name}: {answer}");
        assert!(!answer.contains("smuggled"), "{name}: {answer}");
    }
    assert_eq!(api.get("/template").await["templates"], json!([]), "nothing got through");
    // And it would have: two honest requests on one connection are two.
    let honest = format!(
        "GET /template HTTP/1.1\r\nHost: t\r\n{bearer}\r\n{}",
        hidden.replacen("Host: t", "Host: t\r\nConnection: close", 1)
    );
    let answer = exchange(stack.gateway, honest.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(api.get("/template").await["templates"][0]["label"], "smuggled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_costs_little() {
    let stack = Stack::start(Kind::Embedded).await;
    let api = stack.new_tenant().await;
    let gateway = stack.gateway;
    // Warm, so that what the first requests of all cost is not counted.
    api.get("/template").await;
    let memory = Memory::of(stack.pid("up"));
    let before = memory.now_kib();

    let bearer = bearer(&api.token);
    let head = format!(
        "POST /template HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: application/json\r\n{bearer}"
    );
    let mut many = head.clone();
    for number in 0..500_000 {
        let _ = write!(many, "X{number}: y\r\n");
    }
    let large = format!("{head}X: {}\r\n\r\n", "y".repeat(10 << 20));
    let long = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "y".repeat(10 << 20));
    let endless =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", "8000\r\n".to_owned() + &"y".repeat(20 << 20));
    let claimed = format!("{head}Content-Length: 1000000000000\r\n\r\n{}", "y".repeat(4 << 20));
    let extension = format!("{head}Transfer-Encoding: chunked\r\n\r\n1;{}\r\n", "y".repeat(10 << 20));
    let trailer = format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n", "y".repeat(10 << 20));
    let bomb = gzip_bomb();
    let mut packed =
        format!("{head}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len()).into_bytes();
    packed.extend(&bomb);
    for (name, bytes) in [
        ("10 MiB of headers", many.as_bytes()),
        ("a header of 10 MiB", large.as_bytes()),
        ("a path of 10 MiB", long.as_bytes()),
        ("chunks without an end", endless.as_bytes()),
        ("a length of a terabyte", claimed.as_bytes()),
        ("an extension of 10 MiB", extension.as_bytes()),
        ("a trailer of 10 MiB", trailer.as_bytes()),
        ("a gigabyte in a mebibyte of gzip", &packed),
    ] {
        let answers = (0..4).map(|_| exchange(gateway, bytes));
        for answer in futures_util::future::join_all(answers).await {
            let status = status_of(&answer);
            assert!(status == 0 || (400..500).contains(&status), "{name}: {answer:.300}");
        }
        let grown = memory.most_kib().saturating_sub(before);
        println!("{name}: {grown} KiB so far");
        assert!(grown < MOST_KIB, "{name}: {grown} KiB");
    }
    assert_eq!(api.get("/template").await["templates"], json!([]));
}

/// Deep documents at everything that takes one. Every service reads JSON by itself.
#[tokio::test(flavor = "multi_thread")]
async fn deep_documents_are_refused_by_every_endpoint() {
    const DEPTH: usize = 100_000;
    let stack = Stack::start(Kind::Embedded).await;
    let admin = stack.admin().await;
    let world = World::new(&stack, &admin, 0).await;
    let memory = Memory::of(stack.pid("up"));
    let before = memory.now_kib();
    let shapes = [
        "[".repeat(DEPTH),
        "{\"a\":".repeat(DEPTH),
        format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH)),
        format!("{}1{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH)),
    ];
    let with_bodies = Request::all().into_iter().filter(|request| !request.sample.body.is_empty());
    let mut count = 0;
    for request in with_bodies {
        let (method, path) = (request.method(), world.path(&request));
        // A login is read by the gateway too, which takes less.
        let too_large = if request.endpoint.route == "/" { 413 } else { 400 };
        let first_member = request.sample.body.find(':').map(|colon| &request.sample.body[..=colon]).unwrap();
        for shape in &shapes {
            for body in [shape.clone(), format!("{first_member}{shape}}}")] {
                let status = send(&world.owner, &method, &stack.url(&path), body).await;
                assert!([too_large, 400, 401, 403, 404, 413].contains(&status), "{method} {path}: {status}");
                count += 1;
            }
        }
    }
    let grown = memory.most_kib().saturating_sub(before);
    println!("{count} documents, {grown} KiB");
    assert!(grown < MOST_KIB, "{grown} KiB");
}

async fn send(by: &Api, method: &Method, url: &str, body: String) -> u16 {
    let client = common::testing::client();
    let request =
        client.request(method.clone(), url).bearer_auth(&by.token).header("Content-Type", "application/json");
    let answer = request.timeout(Duration::from_secs(20)).body(body).send().await;
    answer.map_or(413, |answer| answer.status().as_u16())
}

/// A gigabyte of zeros: members of a gzip file follow each other.
fn gzip_bomb() -> Vec<u8> {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut gzip = Command::new("gzip")
        .arg("-9")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip starts");
    let mut stdin = gzip.stdin.take().expect("stdin is piped");
    stdin.write_all(&vec![0; 16 << 20]).expect("gzip reads");
    drop(stdin);
    let member = gzip.wait_with_output().expect("gzip ends").stdout;
    member.repeat(64)
}
