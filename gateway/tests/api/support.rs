//! The gateway, fake services behind it, and clients that send exactly what they are told.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use common::{
    clock::Clock,
    engine::event_log::{Headers, NewRecord, TopicProfile},
    http::{
        Caller,
        caller::{CALLER_HEADER, CallerKind},
        client::Service,
        problem::{FAILURE, FAILURE_HEADER},
        server::HttpServer,
    },
    shutdown::Shutdown,
    testing::{TestEngines, eventually},
    wire::{Subject, Tenant, Topic, event::Revocation},
};
use gateway::{Config, DEFAULT_CONFIG, Server};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// A running gateway.
pub(crate) struct Stack {
    pub test: TestEngines,
    pub fake: Fake,
    pub addr: SocketAddr,
    pub base: String,
}

/// What the fake services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fake(Arc<FakeState>);

struct FakeState {
    test_clock: Clock,
    key: common::http::InternalKey,
    log: common::engine::EventLog,
    seen: Mutex<Vec<Seen>>,
    /// Targets of requests whose head has arrived.
    begun: Mutex<Vec<String>>,
    /// Targets of requests whose body ended with an error.
    broken: Mutex<Vec<String>>,
    asked: Mutex<Vec<Asked>>,
    holders: Mutex<HashMap<String, Holder>>,
    /// Answers of the PDP pass one by one when it is narrow.
    pdp_gate: Semaphore,
}

/// A request that reached a service.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub service: Service,
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub caller: Option<Caller>,
    pub body: Bytes,
}

/// A question that reached the PDP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Asked {
    pub jwt: String,
    pub action: String,
    pub resource: String,
    pub fresh: bool,
}

/// Who holds a token, and what the PDP says.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub decision: &'static str,
    pub tenant: &'static str,
    pub user_id: i64,
    pub expires_s: i64,
}

pub(crate) const SERVICES: [Service; 6] = [
    Service::Auth,
    Service::DeviceManager,
    Service::DataBroker,
    Service::History,
    Service::KafkaWs,
    Service::X509Identity,
];

/// The default settings with a port that is free.
pub(crate) fn config() -> Config {
    #[derive(Deserialize)]
    struct Settings {
        gateway: Config,
    }
    let settings: Settings = common::config::load(&[DEFAULT_CONFIG], None).unwrap();
    Config { listen: "127.0.0.1:0".to_owned(), ..settings.gateway }
}

impl Stack {
    /// The gateway on each set of engines.
    pub(crate) async fn both() -> Vec<Self> {
        Self::both_with(&config()).await
    }

    pub(crate) async fn both_with(config: &Config) -> Vec<Self> {
        let mut stacks = Vec::new();
        for test in TestEngines::both().await {
            stacks.push(Self::start(test, config.clone()).await);
        }
        stacks
    }

    pub(crate) async fn start(test: TestEngines, config: Config) -> Self {
        let engines = test.engines.clone();
        let fake = Fake(Arc::new(FakeState {
            test_clock: engines.clock.clone(),
            key: engines.client.key().clone(),
            log: engines.log.clone(),
            seen: Mutex::default(),
            begun: Mutex::default(),
            broken: Mutex::default(),
            asked: Mutex::default(),
            holders: Mutex::default(),
            pdp_gate: Semaphore::new(1000),
        }));
        for service in SERVICES {
            let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
            engines.client.urls().set(service, format!("http://{}", http.local_addr().unwrap()));
            let router = fake.router(service);
            engines.shutdown.spawn("fake", http.run(router, engines.shutdown.clone()));
        }
        let server = Server::bind(config, engines.clone()).await.unwrap();
        let addr = server.local_addr().unwrap();
        engines.shutdown.spawn("gateway", server.run());
        fake.hold("good", "permit", 7);
        fake.hold("denied", "deny", 8);
        Self { test, fake, addr, base: format!("http://{addr}") }
    }

    /// Starts one more instance of something, for as long as the `Instance` lives.
    pub(crate) async fn instance(&self, listen: &str, router: Router) -> Instance {
        let engines = &self.test.engines;
        let hits = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&hits);
        let router = router.layer(axum::middleware::map_request(move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::ready(request)
        }));
        let http = HttpServer::bind(listen, engines.http).await.unwrap();
        let address = http.local_addr().unwrap();
        let stop = engines.shutdown.child();
        engines.shutdown.spawn("instance", http.run(router, stop.clone()));
        Instance { address, hits, stop }
    }

    /// Sends exactly this and returns what comes back until the connection closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that stays open is cut here.
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Status and body of one request without a body, sent as it is.
    pub(crate) async fn plain(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.raw(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (status_of(head), body.to_owned())
    }

    /// Announces a revocation as auth does.
    pub(crate) async fn announce(&self, user_id: Option<i64>) {
        let topic = Topic::new(&Tenant::management(), &Subject::REVOCATION);
        let value = serde_json::to_vec(&Revocation { user_id, timestamp: 0, keeps_tokens: false }).unwrap();
        let record = NewRecord { topic, key: None, value: value.into(), headers: Headers::new() };
        self.test.engines.log.append(record).await.unwrap();
    }

    /// Waits until decisions are remembered: the gateway hears revocations then.
    pub(crate) async fn wait_for_cache(&self) {
        eventually("decisions are remembered", async || {
            self.get("/device/warm").await;
            let before = self.fake.asked().len();
            self.get("/device/warm").await;
            (self.fake.asked().len() == before).then_some(())
        })
        .await;
    }

    /// A permitted request.
    pub(crate) async fn get(&self, path: &str) -> u16 {
        self.plain("GET", path, "Authorization: Bearer good\r\n").await.0
    }
}

/// An instance of a service.
pub(crate) struct Instance {
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    stop: Shutdown,
}

impl Instance {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that have reached it.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.request();
    }
}

pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// One connection, used for several requests.
pub(crate) struct Connection {
    pub stream: TcpStream,
    unread: String,
}

impl Connection {
    pub(crate) async fn to(stack: &Stack) -> Self {
        Self { stream: TcpStream::connect(stack.addr).await.unwrap(), unread: String::new() }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads more; false at the end.
    pub(crate) async fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        self.unread.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        count > 0
    }

    /// Head, in lower case, and body of the next answer.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        loop {
            if let Some((head, rest)) = self.unread.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length = head.split("content-length: ").nth(1).expect("a length");
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if let Some(body) = rest.get(..length) {
                    let body = body.to_owned();
                    self.unread.drain(..head.len() + 4 + length);
                    return (head, body);
                }
            }
            assert!(self.read().await, "the answer breaks off: {:?}", self.unread);
        }
    }

    /// Whether the gateway closes the connection without saying more.
    pub(crate) async fn closes(mut self) -> bool {
        !self.read().await && self.unread.is_empty()
    }
}

/// Whether the head of an answer says that the connection ends with it.
pub(crate) fn is_announced(head: &str) -> bool {
    head.contains("\r\nconnection: close")
}

/// A port on which nobody listens.
pub(crate) async fn dead_url() -> String {
    let http = HttpServer::bind(
        "127.0.0.1:0",
        common::http::server::HttpSettings {
            max_body_bytes: 1,
            request_timeout_ms: 1,
            header_timeout_ms: 1,
            max_connections: 1,
        },
    );
    format!("http://{}", http.await.unwrap().local_addr().unwrap())
}

impl Fake {
    /// Makes a token known to the PDP.
    pub(crate) fn hold(&self, token: &str, decision: &'static str, user_id: i64) {
        let expires_s = self.0.test_clock.now_s() + 3600;
        self.hold_until(token, Holder { decision, tenant: "admin", user_id, expires_s });
    }

    pub(crate) fn hold_until(&self, token: &str, holder: Holder) {
        self.0.holders.lock().unwrap().insert(token.to_owned(), holder);
    }

    /// Makes a token unknown to the PDP.
    pub(crate) fn revoke(&self, token: &str) {
        self.0.holders.lock().unwrap().remove(token);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Waits until the head of a request has reached a service.
    pub(crate) async fn wait_for_head(&self, target: &str) {
        eventually("the head arrives", async || self.has_begun(target).then_some(())).await;
    }

    /// Whether the head of a request has reached a service.
    pub(crate) fn has_begun(&self, target: &str) -> bool {
        self.0.begun.lock().unwrap().iter().any(|begun| begun == target)
    }

    /// Waits until a service has noticed that the body of a request never ends.
    pub(crate) async fn wait_for_break(&self, target: &str) {
        eventually("the body breaks off", async || {
            self.0.broken.lock().unwrap().iter().any(|broken| broken == target).then_some(())
        })
        .await;
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().last().cloned().expect("a request reached a service")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap().clone()
    }

    /// The PDP answers only when it is allowed to.
    pub(crate) fn hold_answers(&self) {
        self.0.pdp_gate.forget_permits(1000);
    }

    pub(crate) fn release_answers(&self) {
        self.0.pdp_gate.add_permits(1000);
    }

    fn router(&self, service: Service) -> Router {
        let state = (self.clone(), service);
        let common = Router::new()
            .route("/device/slow", any(slow))
            .route("/device/drip", any(drip))
            .route("/device/early", any(StatusCode::CONFLICT));
        let special = match service {
            Service::Auth => Router::new().route("/pdp", post(decide)),
            Service::DataBroker => Router::new()
                .route("/topic/{subject}", get(allocate_topic))
                .route("/socket.io/", any(echo_socket)),
            Service::KafkaWs => Router::new().route("/kafka-ws/v1/topics/{topic}", any(echo_socket)),
            Service::DeviceManager => {
                Router::new().route("/device/switch", any(switch)).route("/device/socket", any(echo_socket))
            }
            _ => Router::new(),
        };
        common.merge(special).fallback(remember).with_state(state)
    }
}

type FakeService = (Fake, Service);

async fn remember(State((fake, service)): State<FakeService>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let caller = parts
        .headers
        .get(CALLER_HEADER)
        .and_then(|header| fake.0.key.verify(&parts.method, &target, header, &fake.0.test_clock));
    fake.0.begun.lock().unwrap().push(target.clone());
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        fake.0.broken.lock().unwrap().push(target);
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = json!({ "target": target, "length": body.len() });
    // A login with the password `wrong`.
    let is_refused = service == Service::Auth && body.windows(7).any(|part| part == b"\"wrong\"");
    let is_graphql = target.starts_with("/graphql");
    let seen = Seen { service, method: parts.method, target, headers: parts.headers, caller, body };
    fake.0.seen.lock().unwrap().push(seen);
    if is_refused && is_graphql {
        return ([(FAILURE_HEADER, FAILURE)], Json(json!({ "data": { "login": null } }))).into_response();
    }
    if is_refused {
        return (StatusCode::FORBIDDEN, Json(json!({ "message": "AuthorizationError" }))).into_response();
    }
    let hop = [("connection", "x-hop"), ("x-hop", "1"), ("x-tatami-secret", "1"), ("x-stays", "1")];
    (hop, Json(answer)).into_response()
}

async fn decide(
    State((fake, _)): State<FakeService>,
    headers: HeaderMap,
    Json(asked): Json<Asked>,
) -> (StatusCode, Json<Value>) {
    let header = headers.get(CALLER_HEADER).expect("the gateway says who asks");
    let caller = fake.0.key.verify(&Method::POST, "/pdp", header, &fake.0.test_clock).expect("and signs it");
    assert_eq!((caller.kind, caller.user.as_str()), (CallerKind::Service, "gateway"));
    let holder = fake.0.holders.lock().unwrap().get(&asked.jwt).cloned();
    fake.0.asked.lock().unwrap().push(asked);
    fake.0.pdp_gate.acquire().await.unwrap().forget();
    fake.0.pdp_gate.add_permits(1);
    let Some(Holder { decision, tenant, user_id, expires_s }) = holder else {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Invalid signature", "status": 401 })));
    };
    let answer = json!({
        "decision": decision, "status": "ok", "tenant": tenant, "username": "joe", "userid": user_id,
        "expires": expires_s,
    });
    (StatusCode::OK, Json(answer))
}

async fn allocate_topic(State((fake, _)): State<FakeService>, Path(subject): Path<String>) -> Json<Value> {
    let topic = Topic::new(&Tenant::management(), &Subject::parse(&subject).unwrap());
    let profile = TopicProfile { partitions: 1, replication: 1, retention_ms: 3_600_000 };
    fake.0.log.create_topic(&topic, profile).await.unwrap();
    Json(json!({ "topic": topic.as_str() }))
}

async fn slow() {
    std::future::pending::<()>().await;
}

/// Begins to answer and pauses for ever.
async fn drip() -> Response {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"first"))]);
    let body = futures_util::StreamExt::chain(first, futures_util::stream::pending());
    Body::from_stream(body).into_response()
}

/// Switches protocols without being asked.
async fn switch() -> Response {
    (StatusCode::SWITCHING_PROTOCOLS, [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")])
        .into_response()
}

async fn echo_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Text(_) | Message::Binary(_) if socket.send(message.clone()).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
    })
}
