//! Connections to services are used again while they are good.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{
    http::client::Service,
    testing::{TestEngines, eventually},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Stack, config};

const TOKEN: &str = "Authorization: Bearer good\r\n";
const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

type Count = Arc<AtomicUsize>;

/// Each thread of the gateway has connections of its own.
fn threads() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// A service that gives `answer` to whatever arrives, `per_connection` times before it hangs up without a word. Counts
/// connections on which something arrived, and those that it has closed.
async fn serve(stack: &Stack, answer: &'static str, per_connection: usize) -> (String, Count, Count) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (connections, ended) = (Count::default(), Count::default());
    let (begun, over) = (Arc::clone(&connections), Arc::clone(&ended));
    let shutdown = stack.test.engines.shutdown.clone();
    stack.test.engines.shutdown.spawn("service", async move {
        while let Some(Ok((mut stream, _))) = shutdown.unless_requested(listener.accept()).await {
            let (begun, over, stop) = (Arc::clone(&begun), Arc::clone(&over), shutdown.clone());
            shutdown.spawn("connection", async move {
                let mut request = vec![0; 16 * 1024];
                for number in 0..per_connection {
                    match stop.unless_requested(stream.read(&mut request)).await {
                        Some(Ok(1..)) => {}
                        _ => return,
                    }
                    if number == 0 {
                        begun.fetch_add(1, Ordering::SeqCst);
                    }
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                drop(stream);
                over.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (url, connections, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_connection_carries_many_requests() {
    // Nobody else connects.
    let config = gateway::Config { health_check_interval_ms: 86_400_000, ..config() };
    for stack in Stack::both_with(&config).await {
        for (answer, expected) in [(PLAIN, 200), (CHUNKED, 200), (EMPTY, 204)] {
            let (url, connections, _) = serve(&stack, answer, usize::MAX).await;
            stack.test.engines.client.urls().set(Service::History, url);
            eventually("the service is used", async || {
                stack.get("/history/x").await;
                (connections.load(Ordering::SeqCst) > 0).then_some(())
            })
            .await;
            for _ in 0..20 {
                assert_eq!(stack.get("/history/x").await, expected, "{answer}");
            }
            let count = connections.load(Ordering::SeqCst);
            assert!(count <= threads(), "{count} {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_service_has_closed_is_not_used() {
    for stack in Stack::both().await {
        let (url, connections, ended) = serve(&stack, PLAIN, 1).await;
        stack.test.engines.client.urls().set(Service::History, url);
        eventually("the service is used", async || {
            stack.get("/history/x").await;
            (connections.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
        let before = connections.load(Ordering::SeqCst);
        for _ in 0..20 {
            eventually("the service has hung up", async || {
                (ended.load(Ordering::SeqCst) == connections.load(Ordering::SeqCst)).then_some(())
            })
            .await;
            // A POST is sent once only.
            let (status, body) =
                stack.plain("POST", "/history/x", &format!("{TOKEN}Content-Length: 0\r\n")).await;
            assert!(status == 200 && body == "ok", "{status} {body}");
        }
        assert_eq!(connections.load(Ordering::SeqCst) - before, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_to_its_end_costs_only_its_connection() {
    for stack in Stack::both().await {
        for _ in 0..5 {
            let mut client = crate::support::Connection::to(&stack).await;
            client.write(&format!("GET /device/drip HTTP/1.1\r\nHost: t\r\n{TOKEN}\r\n")).await;
            assert!(client.read().await, "it begins");
        }
        for _ in 0..5 {
            assert_eq!(stack.get("/device/x").await, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_here_costs_no_connection_to_the_service() {
    // Nobody else connects.
    let config = gateway::Config { health_check_interval_ms: 86_400_000, ..config() };
    for stack in Stack::both_with(&config).await {
        let (url, connections, _) = serve(&stack, PLAIN, usize::MAX).await;
        stack.test.engines.client.urls().set(Service::History, url);
        eventually("the service is used", async || {
            stack.get("/history/x").await;
            (connections.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
        let mut slow = Vec::new();
        for (number, framing) in
            ["Content-Length: 4", "Content-Length: 1000000", "Transfer-Encoding: chunked"]
                .into_iter()
                .enumerate()
        {
            let mut client = crate::support::Connection::to(&stack).await;
            let head = format!("POST /history/slow/{number} HTTP/1.1\r\nHost: t\r\n{TOKEN}{framing}\r\n\r\n");
            client.write(&format!("{head}2\r\n")).await;
            let path = format!("/history/slow/{number}");
            eventually("it is decided about", async || {
                stack
                    .fake
                    .asked()
                    .iter()
                    .any(|asked| asked.resource.trim_end_matches('/') == path)
                    .then_some(())
            })
            .await;
            slow.push(client);
        }
        for _ in 0..20 {
            assert_eq!(stack.get("/history/x").await, 200);
        }
        assert!(connections.load(Ordering::SeqCst) <= threads());
        slow[0].write("x").await;
        slow[2].write("ab\r\n0\r\n\r\n").await;
        for complete in [0, 2] {
            assert_eq!(crate::support::status_of(&slow[complete].answer().await.0), 200, "{complete}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_no_more() {
    let connect = async |stack: &Stack| {
        let mut client = crate::support::Connection::to(stack).await;
        // It may be closed before it is written to.
        let head = "GET /nowhere HTTP/1.1\r\nHost: t\r\n\r\n";
        let is_served = client.stream.write_all(head.as_bytes()).await.is_ok() && client.read().await;
        (client, is_served)
    };
    let limited = gateway::Config { max_connections_per_address: 2, ..config() };
    let stack = Stack::start(TestEngines::embedded().await, limited.clone()).await;
    let (first, second) = (connect(&stack).await, connect(&stack).await);
    assert!(first.1 && second.1);
    assert!(!connect(&stack).await.1, "one more");
    drop(first);
    eventually("a place is free", async || connect(&stack).await.1.then_some(())).await;
    let trusting = gateway::Config { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..limited };
    let stack = Stack::start(TestEngines::embedded().await, trusting).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(connect(&stack).await);
    }
    assert!(open.iter().all(|(_, is_served)| *is_served), "a proxy speaks for many");
}
