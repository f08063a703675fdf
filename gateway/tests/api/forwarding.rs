//! Bodies, time-outs and services that are away.

use common::{http::client::Service, testing::eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Stack, config, dead_url, status_of};

const TOKEN: &str = "Authorization: Bearer good\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_unchanged_with_a_length_and_in_chunks() {
    for stack in Stack::both().await {
        let client = common::testing::client();
        let body = vec![b'x'; 300_000];
        let url = format!("{}/device", stack.base);
        let answer = client.post(&url).bearer_auth("good").body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let seen = stack.fake.last();
        assert_eq!(seen.body, body);
        assert_eq!(seen.headers["content-length"], "300000");
        let chunked =
            "POST /device HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";
        let answer = stack.raw(format!("{chunked}{TOKEN}\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert_eq!(stack.fake.last().body, "abcde");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused() {
    for stack in Stack::both().await {
        let limit = stack.test.engines.http.max_body_bytes;
        let head = "POST /device HTTP/1.1\r\nHost: t\r\n";
        let answer = stack.raw(format!("{head}{TOKEN}Content-Length: {}\r\n\r\n", limit + 1)).await;
        assert_eq!(status_of(&answer), 413, "{answer}");
        assert!(answer.contains(r#"{"message":"request entity too large"}"#), "{answer}");
        assert_eq!(stack.fake.seen().len(), 0, "nothing of it is forwarded");
        let chunk = format!("{limit:x}\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(limit));
        let answer = stack.raw(format!("{head}{TOKEN}Transfer-Encoding: chunked\r\n\r\n{chunk}")).await;
        assert_eq!(status_of(&answer), 413, "{answer}");
        assert_eq!(stack.fake.seen().len(), 0, "the service never sees the end of it");
        let answer = stack.raw(format!("{head}Content-Length: {}\r\n\r\n", limit + 1)).await;
        assert_eq!(status_of(&answer), 401, "strangers are not told about limits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_given_up() {
    let config = gateway::Config { response_timeout_ms: 300, body_pause_ms: 300, ..config() };
    for stack in Stack::both_with(&config).await {
        let (status, body) = stack.plain("GET", "/device/slow", TOKEN).await;
        assert_eq!(status, 504);
        assert!(body.starts_with(r#"{"message":"The upstream server is timing out""#), "{body}");
        let answer = stack.raw(format!("GET /device/drip HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n")).await;
        assert_eq!(status_of(&answer), 200);
        assert!(answer.contains("first"), "what there is arrives at once: {answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "an answer that broke off does not look complete: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_a_bad_gateway() {
    for stack in Stack::both().await {
        let urls = stack.test.engines.client.urls().clone();
        let alive = urls.get(Service::DeviceManager).unwrap();
        urls.set(Service::DeviceManager, dead_url().await);
        let body = eventually("nobody answers", async || {
            let (status, body) = stack.plain("GET", "/device", TOKEN).await;
            (status == 502).then_some(body)
        })
        .await;
        assert!(
            body.starts_with(r#"{"message":"An invalid response was received from the upstream server""#),
            "{body}"
        );
        assert!(body.contains("request_id"), "{body}");
        urls.set(Service::DeviceManager, "http://no-such-host.invalid");
        eventually("the new address is used", async || {
            let (status, body) = stack.plain("GET", "/device", TOKEN).await;
            (status == 503 && body.contains("name resolution failed")).then_some(())
        })
        .await;
        urls.set(Service::DeviceManager, alive);
        eventually("it is back", async || (stack.get("/device").await == 200).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_answers_nonsense_is_a_bad_gateway() {
    for stack in Stack::both().await {
        for nonsense in
            ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"]
        {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            stack.test.engines.client.urls().set(Service::History, url);
            let stop = stack.test.engines.shutdown.clone();
            stack.test.engines.shutdown.spawn("nonsense", async move {
                while let Some(Ok((mut stream, _))) = stop.unless_requested(listener.accept()).await {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(nonsense.as_bytes()).await;
                }
            });
            eventually("the nonsense is noticed", async || {
                let (status, _) = stack.plain("GET", "/history/x", TOKEN).await;
                assert!(status == 502 || status == 200, "{status}");
                (status == 502).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_protocols_that_nobody_asked_for_is_a_bad_gateway() {
    for stack in Stack::both().await {
        let (status, _) = stack.plain("GET", "/device/switch", TOKEN).await;
        assert_eq!(status, 502);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_requests() {
    for stack in Stack::both().await {
        let mut stream = TcpStream::connect(stack.addr).await.unwrap();
        let request = format!("GET /device/1 HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n");
        // The second does not wait for the answer to the first.
        stream.write_all(request.repeat(2).as_bytes()).await.unwrap();
        let mut answers = String::new();
        let mut buffer = [0; 4096];
        while answers.matches("200 OK").count() < 2 {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{answers}");
            answers.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        assert_eq!(stack.fake.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_free_answer_is_given_for_odd_methods() {
    for stack in Stack::both().await {
        for (method, target, expected) in [
            ("TRACE", "/device", 405),
            ("CONNECT", "test:80", 405),
            ("PROPFIND", "/device", 200),
            ("get", "/device", 200),
            (&"X".repeat(33), "/device", 405),
        ] {
            let (status, body) = stack.plain(method, target, TOKEN).await;
            assert_eq!(status, expected, "{method} {target} {body}");
        }
        assert_eq!(stack.fake.last().method.as_str(), "get", "methods are forwarded as they are");
        let (status, body) = stack.plain("HEAD", "/device", TOKEN).await;
        assert_eq!((status, body.as_str()), (200, ""));
    }
}
