//! A running kafka-ws, a data-broker that only creates topics, and websocket clients.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use common::{
    engine::{
        Engines,
        event_log::{NewRecord, TopicProfile, generation_header},
    },
    http::{
        Caller, Problem, Shape,
        client::Service,
        server::{HttpServer, Layers},
    },
    tenancy::Topics,
    testing::{TestEngines, client, eventually, fresh_tenant, user_of},
    wire::{Subject, Tenant, Topic, event::Revocation},
};
use futures_util::StreamExt;
use kafka_ws::{Config, DEFAULT_CONFIG, Server};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest time that a test waits for one frame.
const PATIENCE: Duration = Duration::from_secs(20);

const PROFILE: TopicProfile = TopicProfile { partitions: 2, replication: 1, retention_ms: 3_600_000 };

/// A running service, and a tenant of its own.
pub(crate) struct Stack {
    pub test: TestEngines,
    pub base: String,
    pub tenant: Tenant,
}

/// The default settings with a port that is free.
pub(crate) fn config() -> Config {
    #[derive(Deserialize)]
    struct Settings {
        kafka_ws: Config,
    }
    let settings: Settings = common::config::load(&[DEFAULT_CONFIG], None).unwrap();
    Config { listen: "127.0.0.1:0".to_owned(), ..settings.kafka_ws }
}

impl Stack {
    /// The service on each set of engines.
    pub(crate) async fn both() -> Vec<Self> {
        Self::both_with(&config()).await
    }

    pub(crate) async fn both_with(config: &Config) -> Vec<Self> {
        let mut stacks = Vec::new();
        for test in TestEngines::both().await {
            let broker = serve_topics(&test.engines).await;
            test.engines.client.urls().set(Service::DataBroker, broker);
            let base = start(config, &test.engines).await;
            stacks.push(Self { test, base, tenant: fresh_tenant() });
        }
        stacks
    }

    /// One more instance of the service on the same engines.
    pub(crate) async fn another(&self) -> String {
        start(&config(), &self.test.engines).await
    }

    /// A ticket of a user of the tenant.
    pub(crate) async fn ticket(&self) -> String {
        self.ticket_of(&user_of(&self.tenant)).await
    }

    pub(crate) async fn ticket_of(&self, caller: &Caller) -> String {
        let request = self.test.request(Method::GET, &self.base, "/kafka-ws/v1/ticket", caller);
        let answer: BTreeMap<String, String> = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer.keys().collect::<Vec<_>>(), ["ticket"]);
        answer["ticket"].clone()
    }

    /// A user whose identifier no other test uses: the real log of revocations is one for all.
    pub(crate) fn fresh_user(&self) -> Caller {
        Caller { user_id: rand::random_range(1 << 40..1 << 60), ..user_of(&self.tenant) }
    }

    /// Where a user can open a websocket.
    pub(crate) async fn path_of(&self, user: &Caller) -> String {
        format!("/kafka-ws/v1/topics/{}.device-data?ticket={}", self.tenant, self.ticket_of(user).await)
    }

    /// Announces that the tokens of a user died. When it returns, what is issued is newer.
    pub(crate) async fn revoke(&self, user: &Caller) {
        let topics = Topics::new(self.test.engines.client.clone(), "test");
        let topic = topics.resolve(&Tenant::management(), &Subject::REVOCATION).await.unwrap();
        let revocation = Revocation { user_id: Some(user.user_id), timestamp: 0, keeps_tokens: false };
        self.append_to(&topic, serde_json::to_vec(&revocation).unwrap()).await;
        let announced = self.test.engines.clock.now_ms();
        eventually("the time goes on", async || (self.test.engines.clock.now_ms() > announced).then_some(()))
            .await;
    }

    /// Tries to open a websocket.
    pub(crate) async fn connect(&self, path: &str) -> Result<Socket, (StatusCode, Value)> {
        connect(&self.base, path).await
    }

    /// Opens a websocket on a subject of the tenant.
    pub(crate) async fn subscribe(&self, subject: &str) -> Socket {
        let (tenant, ticket) = (&self.tenant, self.ticket().await);
        self.connect(&format!("/kafka-ws/v1/topics/{tenant}.{subject}?ticket={ticket}")).await.unwrap()
    }

    /// The same, for a client whose system takes little from the network that the client itself does not read.
    pub(crate) async fn subscribe_with_small_buffers(&self, subject: &str) -> Socket {
        let address = self.base.trim_start_matches("http://");
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(256 * 1024).unwrap();
        let stream = tcp.connect(address.parse().unwrap()).await.unwrap();
        let (tenant, ticket) = (&self.tenant, self.ticket().await);
        let url = format!("ws://{address}/kafka-ws/v1/topics/{tenant}.{subject}?ticket={ticket}");
        client_async(url, MaybeTlsStream::Plain(stream)).await.unwrap().0
    }

    /// Creates a topic of the tenant, as a service would.
    pub(crate) async fn create(&self, subject: &str) {
        let topic = Topic::parse(&format!("{}.{subject}", self.tenant)).unwrap();
        self.test.engines.log.create_topic(&topic, PROFILE).await.unwrap();
    }

    /// The topics of the tenant, in the order of their names.
    pub(crate) async fn topics(&self) -> Vec<String> {
        let topics = self.test.engines.log.topics_of(&self.tenant).await.unwrap();
        topics.iter().map(|topic| topic.subject().to_owned()).collect()
    }

    /// Appends a record to a topic of the tenant.
    pub(crate) async fn append(&self, subject: &str, value: impl Into<bytes::Bytes>) {
        self.append_to(&Topic::parse(&format!("{}.{subject}", self.tenant)).unwrap(), value).await;
    }

    pub(crate) async fn append_to(&self, topic: &Topic, value: impl Into<bytes::Bytes>) {
        self.append_for(0, topic, value).await;
    }

    /// Appends a record that says which of the tenants of its name it was made for.
    pub(crate) async fn append_for(&self, generation: i64, topic: &Topic, value: impl Into<bytes::Bytes>) {
        let headers = generation_header(generation).into_iter().collect();
        let record = NewRecord { topic: topic.clone(), key: None, value: value.into(), headers };
        self.test.engines.log.append(record).await.unwrap();
    }

    /// Status and body of a plain request.
    pub(crate) async fn plain(&self, method: Method, path: &str) -> (u16, Value) {
        let response = client().request(method, format!("{}{path}", self.base)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

async fn start(config: &Config, engines: &Engines) -> String {
    let server = Server::bind(config.clone(), engines.clone()).await.unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    engines.shutdown.spawn("kafka-ws", server.run());
    base
}

/// Tries to open a websocket.
pub(crate) async fn connect(base: &str, path: &str) -> Result<Socket, (StatusCode, Value)> {
    match connect_async(format!("{}{path}", base.replace("http://", "ws://"))).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let body = serde_json::from_slice(body).unwrap_or(Value::Null);
            Err((StatusCode::from_u16(answer.status().as_u16()).unwrap(), body))
        }
        Err(error) => panic!("{error}"),
    }
}

/// The next text frame.
pub(crate) async fn text(socket: &mut Socket) -> String {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time") {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("not a text frame: {other:?}"),
        }
    }
}

/// Code and reason of the close frame that comes next.
pub(crate) async fn close(socket: &mut Socket) -> (u16, String) {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time") {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                // Answers the close.
                while let Some(Ok(_)) = socket.next().await {}
                return (code.into(), reason.to_string());
            }
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("not a close frame: {other:?}"),
        }
    }
}

/// Creates topics as data-broker does.
async fn serve_topics(engines: &Engines) -> String {
    async fn allocate(
        caller: Caller,
        Path(subject): Path<String>,
        State(log): State<common::engine::EventLog>,
    ) -> Result<Json<Value>, Problem> {
        let topic = Topic::new(&caller.tenant, &Subject::parse(&subject).unwrap());
        log.create_topic(&topic, PROFILE).await?;
        Ok(Json(json!({ "topic": topic.as_str() })))
    }
    let http = HttpServer::bind("127.0.0.1:0", engines.http).await.unwrap();
    let base = format!("http://{}", http.local_addr().unwrap());
    let router = Router::new().route("/topic/{subject}", get(allocate)).with_state(engines.log.clone());
    let layers = Layers {
        service: "data-broker",
        shape: Shape::Message,
        key: engines.client.key().clone(),
        clock: engines.clock.clone(),
        settings: engines.http,
    };
    engines.shutdown.spawn("topics", http.run(layers.wrap(router), engines.shutdown.clone()));
    base
}
