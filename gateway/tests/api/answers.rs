//! Services that answer what they should not, or when they should not, and clients that leave.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use common::{
    http::client::Service,
    testing::{TestEngines, eventually},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::support::{Connection, Stack, config, is_announced, status_of};

const TOKEN: &str = "Authorization: Bearer good\r\n";
const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway that nobody but the test makes connect.
async fn stack() -> Stack {
    stack_with(config()).await
}

async fn stack_with(config: gateway::Config) -> Stack {
    let config = gateway::Config { health_check_interval_ms: 86_400_000, ..config };
    Stack::start(TestEngines::embedded().await, config).await
}

/// The next request on a connection as it was sent, with what came with its head; `None` at the end.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            _ => return None,
        }
    }
    Some(String::from_utf8(request).unwrap())
}

/// Makes the device manager a service that does this with every connection, beginning with the first request. Waits until it is used.
async fn serve<F>(stack: &Stack, act: impl Fn(TcpStream, String) -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shutdown = stack.test.engines.shutdown.clone();
    stack
        .test
        .engines
        .client
        .urls()
        .set(Service::DeviceManager, format!("http://{}", listener.local_addr().unwrap()));
    shutdown.clone().spawn("service", async move {
        while let Some(Ok((mut stream, _))) = shutdown.unless_requested(listener.accept()).await {
            let (act, stop) = (act.clone(), shutdown.clone());
            shutdown.spawn("connection", async move {
                let serve = async {
                    let Some(first) = request(&mut stream).await else { return };
                    if first.starts_with("GET /device/is-used") {
                        let _ = stream.write_all(b"HTTP/1.1 299 Used\r\nConnection: close\r\n\r\n").await;
                    } else {
                        act(stream, first).await;
                    }
                };
                stop.unless_requested(serve).await;
            });
        }
    });
    eventually("the service is used", async || (stack.get("/device/is-used").await == 299).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_services_as_they_were_meant() {
    let stack = stack().await;
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&seen);
    serve(&stack, move |mut stream, first| {
        let log = Arc::clone(&log);
        async move {
            let mut next = Some(first);
            while let Some(mut request) = next {
                let is_complete = |request: &str| {
                    let (head, body) = request.split_once("\r\n\r\n").unwrap();
                    match head.split("\r\ncontent-length: ").nth(1) {
                        Some(length) => body.len() >= length.lines().next().unwrap().parse().unwrap(),
                        None => !head.contains("chunked") || body.ends_with("0\r\n\r\n"),
                    }
                };
                while !is_complete(&request) {
                    let mut more = [0; 4096];
                    let count = stream.read(&mut more).await.unwrap();
                    assert!(count > 0, "{request}");
                    request.push_str(std::str::from_utf8(&more[..count]).unwrap());
                }
                log.lock().unwrap().push(request);
                let _ = stream.write_all(PLAIN.as_bytes()).await;
                next = self::request(&mut stream).await;
            }
        }
    })
    .await;
    for (line, headers, body, framing, sent) in [
        ("GET /device/a?b=c", "", "", "", ""),
        ("GET /device/a", "Content-Length: 0\r\n", "", "content-length: 0", ""),
        ("GET /device/a", "Content-Length: 3\r\n", "abc", "content-length: 3", "abc"),
        ("POST /device/a", "", "", "", ""),
        ("POST /device/a", "Content-Length: 00\r\n", "", "content-length: 0", ""),
        (
            "POST /device/a",
            "Content-Length: 3\r\nConnection: content-length\r\n",
            "abc",
            "content-length: 3",
            "abc",
        ),
        (
            "PUT /device/a",
            "Transfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            "transfer-encoding: chunked",
            "0\r\n\r\n",
        ),
        (
            "PUT /device/a",
            "Transfer-Encoding: Chunked\r\nTrailer: X-A\r\n",
            "2;a=b\r\nab\r\n1\r\nc\r\n0\r\nX-A: b\r\nContent-Length: 1\r\n\r\n",
            "transfer-encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: t\r\n{TOKEN}{headers}\r\n{body}");
        let mut client = Connection::to(&stack).await;
        client.write(&text).await;
        assert_eq!(status_of(&client.answer().await.0), 200, "{text}");
        let request = seen.lock().unwrap().pop().unwrap();
        let (head, rest) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(rest, sent, "{text}");
        let mut lines = head.lines();
        assert_eq!(lines.next().unwrap(), format!("{line} HTTP/1.1"));
        let is_framing = |line: &&str| {
            ["content-length", "transfer-encoding", "connection", "trailer", "te"]
                .contains(&line.split(':').next().unwrap())
        };
        let found: Vec<&str> = lines.filter(is_framing).collect();
        assert_eq!(found, Vec::from_iter((!framing.is_empty()).then_some(framing)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_connection_that_closes_on_a_request_repeats_only_what_is_safe() {
    let stack = stack().await;
    let seen = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&seen);
    // The first request of a connection is answered, the second is read.
    serve(&stack, move |mut stream, _| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(PLAIN.as_bytes()).await;
            if request(&mut stream).await.is_some() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    for (line, rest, status, times) in [
        ("GET", "\r\n", 200, 2),
        ("OPTIONS", "\r\n", 200, 2),
        ("GET", "Content-Length: 2\r\n\r\nab", 502, 1),
        ("POST", "\r\n", 502, 1),
        ("POST", "Content-Length: 0\r\n\r\n", 502, 1),
        ("PUT", "Content-Length: 2\r\n\r\nab", 502, 1),
        ("DELETE", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, 1),
    ] {
        // Of one thread.
        let mut client = Connection::to(&stack).await;
        let mut ask = async |line: &str, rest: &str| {
            client.write(&format!("{line} /device/x HTTP/1.1\r\nHost: t\r\n{TOKEN}{rest}")).await;
            status_of(&client.answer().await.0)
        };
        // Afterwards there is one that was used once.
        while ask("PATCH", "\r\n").await != 200 {}
        let before = seen.load(Ordering::SeqCst);
        assert_eq!(ask(line, rest).await, status, "{line} {rest}");
        assert_eq!(seen.load(Ordering::SeqCst) - before, times, "{line} {rest}");
    }
}

/// A service that takes a body for the next request, and is given one where nobody expects any.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_a_request_is_not_answered_to_somebody_else() {
    let stack = stack().await;
    serve(&stack, async |mut stream, first| {
        let mut next = Some(first);
        while let Some(request) = next {
            let hidden = request.contains("/hidden");
            let _ = stream.write_all(PLAIN.as_bytes()).await;
            if hidden {
                // It comes late, so that the connection could be used again before.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
            }
            next = self::request(&mut stream).await;
        }
    })
    .await;
    let mut client = Connection::to(&stack).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n";
    for method in ["GET", "DELETE", "OPTIONS"] {
        for _ in 0..20 {
            let headers = format!("{TOKEN}Content-Length: {}\r\n", hidden.len());
            let answer = stack
                .raw(format!(
                    "{method} /device/x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n{hidden}"
                ))
                .await;
            assert_eq!(status_of(&answer), 200, "{answer}");
            client.write(&format!("GET /device/y HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n")).await;
            let (_, body) = client.answer().await;
            assert_eq!(body, "ok", "after {method}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_an_answer_is_no_answer() {
    const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let stack = stack().await;
    serve(&stack, async |mut stream, first| {
        let mut next = Some(first);
        while let Some(request) = next {
            let answer =
                match request.split('/').nth(2).unwrap_or_default().split(' ').next().unwrap_or_default() {
                    "head" => "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n",
                    "none" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "same" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n",
                    "chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                    _ => PLAIN,
                };
            let _ = stream.write_all(format!("{answer}{FORGED}").as_bytes()).await;
            next = self::request(&mut stream).await;
        }
    })
    .await;
    let mut client = Connection::to(&stack).await;
    for (first, status) in [
        ("HEAD /device/head", 200),
        ("GET /device/none", 204),
        ("GET /device/same", 304),
        ("GET /device/chunked", 200),
        ("GET /device/x", 200),
    ] {
        for _ in 0..5 {
            let (method, path) = first.split_once(' ').unwrap();
            assert_eq!(stack.plain(method, path, TOKEN).await.0, status);
            client.write(&format!("POST /device/x HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n")).await;
            let (head, body) = client.answer().await;
            assert_eq!((status_of(&head), body.as_str()), (200, "ok"), "after {first}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_begins_to_end_is_given_up() {
    let stack = stack().await;
    serve(&stack, async |mut stream, request| {
        let is_interim = request.contains("/interim");
        let piece = if is_interim { "HTTP/1.1 100 Continue\r\n\r\n" } else { "b" }.repeat(1000);
        let mut next = if is_interim { "" } else { "HTTP/1.1 200 OK\r\nA: " };
        while stream.write_all(next.as_bytes()).await.is_ok() {
            next = &piece;
        }
    })
    .await;
    for path in ["/device/interim", "/device/long"] {
        assert_eq!(stack.get(path).await, 502, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_anywhere_never_looks_complete() {
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;a=b\r\n!\r\n0\r\nA: b\r\n\r\n";
    for answer in [PLAIN, CHUNKED] {
        let stack = stack().await;
        serve(&stack, async move |mut stream, request| {
            let length: usize = request.split(['/', ' ']).nth(3).unwrap().parse().unwrap();
            let _ = stream.write_all(&answer.as_bytes()[..length]).await;
        })
        .await;
        let head = answer.find("\r\n\r\n").unwrap() + 4;
        for length in 0..=answer.len() {
            let text = stack
                .raw(format!("GET /device/{length} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{TOKEN}\r\n"))
                .await;
            if length < head {
                assert_eq!(status_of(&text), 502, "{length} {text}");
            } else {
                // What breaks off at once may take the head along.
                assert!([0, 200].contains(&status_of(&text)), "{length} {text}");
                let is_complete = text.ends_with("0\r\n\r\n") || text.ends_with("\r\n\r\nok");
                assert_eq!(is_complete, length == answer.len(), "{length} {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_half_a_request_is_not_used_again() {
    let stack = stack().await;
    let bodies = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&bodies);
    // Answers every head at once. What was left of a body would be taken for one.
    serve(&stack, move |mut stream, first| {
        let counter = Arc::clone(&counter);
        async move {
            let mut next = Some(first);
            while let Some(request) = next {
                if !request.starts_with("POST /device/") {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.write_all(PLAIN.as_bytes()).await;
                next = self::request(&mut stream).await;
            }
        }
    })
    .await;
    for _ in 0..10 {
        let mut client = Connection::to(&stack).await;
        client
            .write(&format!("POST /device/early HTTP/1.1\r\nHost: t\r\n{TOKEN}Content-Length: 30000\r\n\r\n"))
            .await;
        client.write(&"x".repeat(20_000)).await;
        let (head, body) = client.answer().await;
        assert!(status_of(&head) == 200 && body == "ok" && is_announced(&head), "{head}");
        let (status, body) = stack.plain("POST", "/device/next", TOKEN).await;
        assert_eq!((status, body.as_str()), (200, "ok"));
    }
    assert_eq!(bodies.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_left_when_the_client_leaves() {
    let stack = stack().await;
    let (begun, left) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (begins, leaves) = (Arc::clone(&begun), Arc::clone(&left));
    serve(&stack, move |mut stream, request| {
        let (begins, leaves) = (Arc::clone(&begins), Arc::clone(&leaves));
        async move {
            if request.contains("/half") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            }
            begins.notify_one();
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
            leaves.notify_one();
        }
    })
    .await;
    for (line, rest) in [
        ("GET /device/silent", "\r\n".to_owned()),
        ("GET /device/half", "\r\n".to_owned()),
        ("POST /device/silent", format!("Content-Length: 30000\r\n\r\n{}", "x".repeat(20_000))),
    ] {
        let mut client = Connection::to(&stack).await;
        client.write(&format!("{line} HTTP/1.1\r\nHost: t\r\n{TOKEN}{rest}")).await;
        begun.notified().await;
        drop(client);
        let ends = tokio::time::timeout(std::time::Duration::from_secs(10), left.notified());
        assert!(ends.await.is_ok(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lets_the_time_go_by_is_no_fault_of_the_service() {
    let stack = stack_with(gateway::Config { response_timeout_ms: 300, ..config() }).await;
    for (sent, status) in [(20_000, 408), (30_000, 504)] {
        let mut client = Connection::to(&stack).await;
        // The service answers only after the body, and this one not even then.
        let line = if sent < 30_000 { "POST /device" } else { "POST /device/slow" };
        client.write(&format!("{line} HTTP/1.1\r\nHost: t\r\n{TOKEN}Content-Length: 30000\r\n\r\n")).await;
        client.write(&"x".repeat(sent)).await;
        let (head, _) = client.answer().await;
        assert_eq!(status_of(&head), status, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_has_reached_the_limit_is_not_complete_before_its_end() {
    let mut test = TestEngines::embedded().await;
    test.engines.http.max_body_bytes = 20_000;
    let stack = Stack::start(test, config()).await;
    for (rest, status) in [("1\r\nx\r\n0\r\n\r\n", 413), ("0\r\n\r\n", 200)] {
        let mut client = Connection::to(&stack).await;
        let head =
            format!("POST /device/{status} HTTP/1.1\r\nHost: t\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n");
        client.write(&format!("{head}4e20\r\n{}\r\n", "x".repeat(20_000))).await;
        stack.fake.wait_for_head(&format!("/device/{status}")).await;
        client.write(rest).await;
        assert_eq!(status_of(&client.answer().await.0), status);
        assert_eq!(stack.fake.seen().len(), usize::from(status == 200));
    }
    assert_eq!(stack.fake.last().headers["transfer-encoding"], "chunked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_websocket_says_with_its_first_breath_arrives() {
    let stack = stack().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    stack.test.engines.client.urls().set(Service::KafkaWs, url);
    let stop = stack.test.engines.shutdown.clone();
    stack.test.engines.shutdown.spawn("websocket", async move {
        while let Some(Ok((mut stream, _))) = stop.unless_requested(listener.accept()).await {
            let Some(request) = request(&mut stream).await else { continue };
            assert!(request.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{request}");
            let switch =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
            let _ = stream.write_all(format!("{switch}hello").as_bytes()).await;
        }
    });
    let headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    eventually("the service is used", async || {
        let answer =
            stack.raw(format!("GET /kafka-ws/v1/topics/a.b HTTP/1.1\r\nHost: t\r\n{headers}\r\n")).await;
        (status_of(&answer) == 101 && answer.ends_with("\r\n\r\nhello")).then_some(())
    })
    .await;
}
