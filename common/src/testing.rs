//! For the tests of services: engines, callers and signed requests.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a test that cannot start should say why and stop"
)]

mod database;
mod forwarder;
mod neighbours;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use secrecy::SecretString;
use tempfile::TempDir;
use uuid::Uuid;

pub use self::{
    database::OwnDatabase,
    forwarder::{Forwarder, Forwarding},
    neighbours::{Neighbours, TEST_TOPIC},
};
use crate::{
    clock::Clock,
    engine::{
        Engines, EventLog, HistoryStore, SqlEngine, TicketStore,
        event_log::{EmbeddedLog, EmbeddedLogSettings, KafkaLog, KafkaSettings},
        history_store::MongoSettings,
        sql::PostgresSettings,
        ticket_store::RedisSettings,
    },
    http::{
        Caller, InternalKey,
        admin::Readiness,
        caller::{CALLER_HEADER, CallerKind},
        client::{InternalClient, Urls},
        server::HttpSettings,
    },
    shutdown::Shutdown,
    wire::Tenant,
};

/// Engines for one test. They stop, and their files go, when it is dropped.
pub struct TestEngines {
    /// What a service is given.
    pub engines: Engines,
    /// `embedded` or `real`, for messages of failed tests.
    pub kind: &'static str,
    _directory: Arc<TempDir>,
}

impl fmt::Debug for TestEngines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} engines", self.kind)
    }
}

impl Drop for TestEngines {
    fn drop(&mut self) {
        self.engines.shutdown.request();
    }
}

/// The address of a real engine, from `TATAMI_TEST_<NAME>`. A test whose engine is missing fails.
#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
pub fn real_engine(name: &str) -> String {
    std::env::var(format!("TATAMI_TEST_{name}"))
        .unwrap_or_else(|_| panic!("TATAMI_TEST_{name} is not set: run the tests with `make test`"))
}

impl TestEngines {
    /// Embedded engines in a private directory.
    pub async fn embedded() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let clock = Clock::system();
        let log =
            EmbeddedLog::open(directory.path(), &EmbeddedLogSettings { queue_bytes: 1 << 25 }, clock.clone());
        let log = EventLog::Embedded(log.await.expect("the embedded log opens"));
        let history =
            HistoryStore::embedded(directory.path(), 604_800).await.expect("the history store opens");
        let sql = SqlEngine::Sqlite(directory.path().to_owned());
        Self::new("embedded", log, sql, history, TicketStore::memory(clock.clone()), clock, directory)
    }

    /// Apache Kafka, PostgreSQL, MongoDB and Redis.
    pub async fn real() -> Self {
        let clock = Clock::system();
        let kafka = KafkaSettings { brokers: real_engine("KAFKA") };
        let log = EventLog::Kafka(KafkaLog::connect(&kafka).expect("Kafka's client starts"));
        let url = SecretString::from(real_engine("POSTGRES"));
        let sql = SqlEngine::Postgres(PostgresSettings { url, max_connections: 4 });
        let mongo = MongoSettings { url: real_engine("MONGODB"), database: "tatami_tests".to_owned() };
        let history = HistoryStore::mongodb(&mongo, 604_800).await.expect("MongoDB's client starts");
        let tickets =
            TicketStore::redis(&RedisSettings { url: real_engine("REDIS") }).expect("Redis's client starts");
        Self::new("real", log, sql, history, tickets, clock, TempDir::new().expect("a temporary directory"))
    }

    /// One of each: what a test of a service runs against.
    pub async fn both() -> [Self; 2] {
        [Self::embedded().await, Self::real().await]
    }

    fn new(
        kind: &'static str,
        log: EventLog,
        sql: SqlEngine,
        history: HistoryStore,
        tickets: TicketStore,
        clock: Clock,
        directory: TempDir,
    ) -> Self {
        let key = InternalKey::new("a secret that only tests may know").expect("the secret is long enough");
        let client = InternalClient::new(Urls::new(HashMap::new()), key, clock.clone()).expect("a client");
        let http = HttpSettings {
            max_body_bytes: 1 << 20,
            request_timeout_ms: 30_000,
            header_timeout_ms: 10_000,
            max_connections: 1000,
        };
        let engines = Engines {
            log,
            sql,
            history,
            tickets,
            http,
            client,
            clock,
            readiness: Readiness::default(),
            shutdown: Shutdown::default(),
        };
        Self { engines, kind, _directory: Arc::new(directory) }
    }

    /// A request to a service at `base` (such as `http://127.0.0.1:1234`), signed for `caller`.
    pub fn request(&self, method: Method, base: &str, path: &str, caller: &Caller) -> RequestBuilder {
        let header = self.engines.client.key().sign(&method, path, caller, &self.engines.clock);
        client().request(method, format!("{base}{path}")).header(CALLER_HEADER, header)
    }
}

/// A client with a time-out, for requests without a caller.
pub fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(20)).no_proxy().build().expect("a client")
}

/// A tenant that no other test uses.
pub fn fresh_tenant() -> Tenant {
    let unique = Uuid::new_v4().simple().to_string();
    Tenant::parse(&format!("t{}", &unique[..12])).expect("a valid name")
}

/// A user of a tenant whom the PDP has permitted the request.
pub fn user_of(tenant: &Tenant) -> Caller {
    Caller {
        tenant: tenant.clone(),
        user: "tester".to_owned(),
        user_id: 7,
        kind: CallerKind::User,
        expires_s: Clock::system().now_s() + 3600,
        generation: 0,
    }
}

/// Sends a request whose body is refused before it is read, until the answer could be read: a connection that is closed while
/// the client is still sending may take the answer with it.
pub async fn answer_to_large(request: impl Fn() -> reqwest::RequestBuilder) -> reqwest::Response {
    eventually("the answer is read", || async { request().send().await.ok() }).await
}

/// Waits until `condition` gives something, for 30 seconds at most.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let mut backoff = crate::backoff::Backoff::up_to(Duration::from_millis(200));
    let search = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            backoff.wait().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), search)
        .await
        .unwrap_or_else(|_| panic!("waited 30 seconds in vain for: {what}"))
}
