//! Slow clients and slow services: each holds what it holds until its time is over, and nobody else notices.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use system_tests::{
    Api, Stack,
    raw::{bearer, connect_from, exchange, request, status_of},
    stack::Kind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Connections that one address may have.
const PLACES: usize = 50;
/// Time-outs, in milliseconds: for a head; for a body, and for taking an answer; for a service.
const HEAD_MS: u64 = 1000;
const REQUEST_MS: u64 = 2000;
const SERVICE_MS: u64 = 1500;
/// What a busy machine may need more.
const SLACK: Duration = Duration::from_secs(10);

/// Where the attackers are.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn start(more: &[(&str, &str)]) -> Stack {
    let numbers = [
        ("TATAMI_HTTP__HEADER_TIMEOUT_MS", HEAD_MS),
        ("TATAMI_HTTP__REQUEST_TIMEOUT_MS", REQUEST_MS),
        ("TATAMI_GATEWAY__RESPONSE_TIMEOUT_MS", SERVICE_MS),
        ("TATAMI_GATEWAY__BODY_PAUSE_MS", SERVICE_MS),
        ("TATAMI_GATEWAY__KEEP_ALIVE_MS", HEAD_MS / 2),
        ("TATAMI_GATEWAY__MAX_CONNECTIONS_PER_ADDRESS", PLACES as u64),
        // As many as the process may have files for, or all limits would be reduced by the same share.
        ("TATAMI_HTTP__MAX_CONNECTIONS", 300),
        ("TATAMI_IOT_AGENT_MQTT__MAX_CONNECTIONS", 100),
        ("TATAMI_IOT_AGENT_MQTT__MAX_CONNECTIONS_PER_ADDRESS", 100),
    ];
    let numbers = numbers.map(|(key, value)| (key, value.to_string()));
    let mut settings: Vec<_> = numbers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.extend(more);
    Stack::start_with(Kind::Embedded, &settings).await
}

/// Somebody who just works, on a connection for each request. Returns the longest wait.
async fn honest(to: SocketAddr, api: &Api, until: impl Future<Output = ()>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut until = std::pin::pin!(until);
    let bearer = bearer(&api.token);
    loop {
        let started = Instant::now();
        tokio::select! {
            biased;
            () = &mut until => return longest,
            (status, body) = request(to, "GET", "/device", &bearer) => assert_eq!(status, 200, "{body}"),
        }
        longest = longest.max(started.elapsed());
    }
}

/// Writes `begin` and then `drop` again and again, until the server ends the connection. Returns what it said, and when.
async fn drip(mut stream: TcpStream, begin: String, drop: &'static str) -> (String, Duration) {
    let started = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        let mut next = begin.as_str();
        while writer.write_all(next.as_bytes()).await.is_ok() {
            next = drop;
            beat.tick().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = write => {}
        _ = reader.read_to_end(&mut answer) => {}
    }
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_not_waited_for() {
    let stack = start(&[]).await;
    let api = stack.new_tenant().await;
    let bearer = bearer(&api.token);
    let json = "Content-Type: application/json\r\n";
    for (attack, begin, drop, time_ms, expected) in [
        ("a head that does not end", "GET /device HTTP/1.1\r\n".to_owned(), "X: y\r\n", HEAD_MS, [0, 408]),
        ("nothing at all", String::new(), "", HEAD_MS, [0, 408]),
        ("half a line", "GET /dev".to_owned(), "i", HEAD_MS, [0, 408]),
        (
            "a login",
            format!("POST /auth HTTP/1.1\r\nHost: t\r\n{json}Content-Length: 9999\r\n\r\n{{"),
            " ",
            REQUEST_MS,
            [0, 408],
        ),
        (
            "a body",
            format!("POST /template HTTP/1.1\r\nHost: t\r\n{bearer}{json}Content-Length: 9999\r\n\r\n{{"),
            " ",
            REQUEST_MS,
            [0, 408],
        ),
        (
            "chunks",
            format!("POST /template HTTP/1.1\r\nHost: t\r\n{bearer}{json}Transfer-Encoding: chunked\r\n\r\n"),
            "1\r\n \r\n",
            REQUEST_MS,
            [0, 408],
        ),
    ] {
        let mut slow = JoinSet::new();
        let started = Instant::now();
        for _ in 0..PLACES {
            let stream = connect_from(ATTACKER, stack.gateway).await.unwrap();
            slow.spawn(drip(stream, begin.clone(), drop));
        }
        let all_over = async {
            while let Some(answer) = slow.join_next().await {
                let (answer, held) = answer.unwrap();
                assert!(held.as_millis() > u128::from(time_ms / 2), "{attack}: no place for it: {held:?}");
                assert!(expected.contains(&status_of(&answer)), "{attack}: {answer}");
            }
        };
        let longest = honest(stack.gateway, &api, all_over).await;
        let took = started.elapsed();
        println!("{attack}: {PLACES} places free after {took:?}; others waited {longest:?} at most");
        assert!(took < Duration::from_millis(time_ms) + SLACK, "{attack}: {took:?}");
        assert!(longest < Duration::from_secs(2), "{attack}: others waited {longest:?}");
    }
    // The places are free for whoever comes from there next.
    let mut stream = connect_from(ATTACKER, stack.gateway).await.unwrap();
    let request = format!("GET /device HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{bearer}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status_of(&answer), 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_places() {
    let stack = start(&[("TATAMI_HTTP__HEADER_TIMEOUT_MS", "20000")]).await;
    let api = stack.new_tenant().await;
    let mut open = Vec::new();
    for _ in 0..PLACES * 4 {
        open.push(connect_from(ATTACKER, stack.gateway).await.unwrap());
    }
    // Those that are too many end at once, long before any time-out.
    let mut closed = 0;
    for stream in &mut open[PLACES..] {
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await;
        closed += usize::from(matches!(end, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(closed, PLACES * 3);
    for stream in &mut open[..PLACES] {
        let early = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
        assert!(early.is_err(), "one of the first {PLACES} was closed");
    }
    assert!(api.get("/device").await["devices"].is_array(), "others have theirs");
}

/// A service of the operator's: never answers, begins and stops, or never stops.
async fn serve(listener: TcpListener, ends: tokio::sync::mpsc::UnboundedSender<Instant>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let ends = ends.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
        tokio::spawn(async move {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nsome";
            if head.contains("/slow/half") || head.contains("/slow/endless") {
                let _ = stream.write_all(begin).await;
            }
            if head.contains("/slow/endless") {
                while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
                let _ = ends.send(Instant::now());
            } else if length > 0 {
                // Until the gateway gives up.
                while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
                let _ = ends.send(Instant::now());
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_services_and_slow_readers_are_not_waited_for() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("routes.toml");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let route = format!(
        "[[route]]\nname = \"slow\"\nurls = [\"{url}\"]\nprefixes = [\"/slow\"]\naccess = \"token\"\n"
    );
    fs::write(&file, route).unwrap();
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let stack = start(&[("TATAMI_GATEWAY__ROUTES_FILE", file.to_str().unwrap())]).await;
    #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
    tokio::spawn(serve(listener, ends));
    let api = stack.new_tenant().await;
    let ask_for = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{}\r\n", bearer(&api.token))
    };

    // A service that does not answer, and one that stops in between.
    for (path, expected) in [("/slow/never", 504), ("/slow/half", 200)] {
        let started = Instant::now();
        let requests = (0..20).map(|_| async { exchange(stack.gateway, ask_for(path).as_bytes()).await });
        let attack = async {
            for answer in futures_util::future::join_all(requests).await {
                assert_eq!(status_of(&answer), expected, "{path}: {answer:.200}");
            }
        };
        let longest = honest(stack.gateway, &api, attack).await;
        for _ in 0..20 {
            gave_up(&mut ended).await;
        }
        println!("{path}: over after {:?}; others waited {longest:?} at most", started.elapsed());
        assert!(started.elapsed() < Duration::from_millis(SERVICE_MS) + SLACK, "{path}");
    }
    // A client that asks for much and takes nothing: the service is let go.
    let started = Instant::now();
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = asking(stack.gateway).await;
        stream.write_all(ask_for("/slow/endless").as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    let attack = async {
        for _ in 0..20 {
            gave_up(&mut ended).await;
        }
    };
    let longest = honest(stack.gateway, &api, attack).await;
    println!("deaf clients: over after {:?}; others waited {longest:?} at most", started.elapsed());
    assert!(started.elapsed() < Duration::from_millis(REQUEST_MS) + SLACK);
    drop(deaf);
}

async fn asking(to: SocketAddr) -> TcpStream {
    connect_from(ATTACKER, to).await.unwrap()
}

async fn gave_up(ended: &mut tokio::sync::mpsc::UnboundedReceiver<Instant>) {
    let end = tokio::time::timeout(Duration::from_secs(30), ended.recv()).await;
    end.expect("the gateway lets a service go").expect("the service runs");
}
