//! Turns settings into engines.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use common::{
    clock::Clock,
    engine::{
        Engines, EventLog, HistoryStore, SqlEngine, TicketStore,
        event_log::{EmbeddedLog, KafkaLog},
    },
    http::{
        InternalKey,
        admin::Readiness,
        client::{InternalClient, Urls},
    },
    shutdown::Shutdown,
};
use rand::{Rng, distr::Alphanumeric};
use secrecy::{ExposeSecret, SecretString};

use crate::settings::{Settings, without_password};

/// The data directory, locked for this process while it lives.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// What a data directory looks like to somebody who leaves it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Missing,
    Unused,
    InUse,
}

impl DataDir {
    /// Looks without creating anything. A platform that starts at this very moment may be refused its lock.
    pub(crate) fn look(path: &Path) -> io::Result<Look> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Missing),
            Err(error) => return Err(error),
        }
        match File::open(path.join("lock")) {
            Ok(lock) => match lock.try_lock_shared() {
                Ok(()) => Ok(Look::Unused),
                Err(TryLockError::WouldBlock) => Ok(Look::InUse),
                Err(TryLockError::Error(error)) => Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Look::Unused),
            Err(error) => Err(error),
        }
    }

    /// Refuses a directory that another process uses. Its ports are probably taken too, and that would say less.
    pub(crate) fn ensure_unused(path: &Path) -> anyhow::Result<()> {
        // What is wrong in other ways is said when it is opened.
        if matches!(Self::look(path), Ok(Look::InUse)) { Err(in_use(path)) } else { Ok(()) }
    }

    /// Creates the directory if needed, readable for its owner only, and locks it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot create the data directory {}; choose another with --data-dir", path.display())
        })?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
        lock.try_lock().map_err(|_| in_use(path))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A secret that is generated at the first start.
    fn generated_secret(&self, name: &str) -> anyhow::Result<SecretString> {
        let file = self.path.join(name);
        if let Ok(secret) = fs::read_to_string(&file) {
            return Ok(secret.trim().to_owned().into());
        }
        let secret: String = rand::rng().sample_iter(Alphanumeric).take(48).map(char::from).collect();
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        Ok(secret.into())
    }
}

fn in_use(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "another tatami uses the data directory {}; stop it or choose another with --data-dir",
        path.display()
    )
}

/// Engines in processes of their own, as far as the settings name them.
pub(crate) struct Remote {
    pub(crate) log: Option<EventLog>,
    pub(crate) sql: Option<SqlEngine>,
    pub(crate) history: Option<HistoryStore>,
    pub(crate) tickets: Option<TicketStore>,
}

impl Remote {
    /// Connects without waiting: engines that are away are used as soon as they are there.
    pub(crate) async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let Settings { kafka, postgres, mongodb, redis, .. } = settings;
        Ok(Self {
            log: if kafka.brokers.is_empty() {
                None
            } else {
                Some(EventLog::Kafka(KafkaLog::connect(kafka).context("kafka.brokers")?))
            },
            sql: if postgres.url.expose_secret().is_empty() {
                None
            } else {
                Some(SqlEngine::Postgres(postgres.clone()))
            },
            history: if mongodb.url.is_empty() {
                None
            } else {
                let expiry_s = settings.history_store.expiry_s;
                Some(HistoryStore::mongodb(mongodb, expiry_s).await.context("mongodb.url")?)
            },
            tickets: if redis.url.is_empty() {
                None
            } else {
                Some(TicketStore::redis(redis).context("redis.url")?)
            },
        })
    }
}

/// Connects to the engines that the settings name and opens the embedded ones for the rest. Engines that are away are no
/// error: readiness tells, and they are used as soon as they are there.
pub(crate) async fn connect(
    settings: &Settings,
    data_dir: Option<&DataDir>,
    urls: Urls,
) -> anyhow::Result<Engines> {
    let directory = || {
        let opened = data_dir.context("an embedded engine needs a data directory")?;
        Ok::<_, anyhow::Error>(opened.path.as_path())
    };
    let clock = Clock::system();
    let remote = Remote::connect(settings).await?;
    let log = if let Some(log) = remote.log {
        log
    } else {
        let opened = EmbeddedLog::open(directory()?, &settings.embedded_log, clock.clone());
        EventLog::Embedded(opened.await?)
    };
    let sql = match remote.sql {
        Some(sql) => sql,
        None => SqlEngine::Sqlite(directory()?.to_owned()),
    };
    let history = match remote.history {
        Some(history) => history,
        None => HistoryStore::embedded(directory()?, settings.history_store.expiry_s).await?,
    };
    let tickets = remote.tickets.unwrap_or_else(|| TicketStore::memory(clock.clone()));
    let client = InternalClient::new(urls, internal_key(settings, data_dir)?, clock.clone())?;
    Ok(Engines {
        log,
        sql,
        history,
        tickets,
        http: settings.http,
        client,
        clock,
        readiness: Readiness::default(),
        shutdown: Shutdown::default(),
    })
}

fn internal_key(settings: &Settings, data_dir: Option<&DataDir>) -> anyhow::Result<InternalKey> {
    let secret = match data_dir {
        Some(data_dir) if settings.internal.secret.expose_secret().is_empty() => {
            data_dir.generated_secret("internal-secret")?
        }
        _ => settings.internal.secret.clone(),
    };
    InternalKey::new(secret.expose_secret()).with_context(|| {
        format!("internal.secret must have {} characters or more", InternalKey::MIN_SECRET_LEN)
    })
}

/// What each engine is and where, for people.
pub(crate) struct EngineNames {
    pub(crate) log: String,
    pub(crate) sql: String,
    pub(crate) history: String,
    pub(crate) tickets: String,
}

impl EngineNames {
    /// The names of the engines that the settings choose, without passwords.
    pub(crate) fn of(settings: &Settings) -> Self {
        let name = |need: &str, shared: &str, url: &str, own: &str| {
            if url.is_empty() {
                format!("{need} ({own})")
            } else {
                format!("{need} ({shared}, {})", without_password(url))
            }
        };
        Self {
            log: name("log", "Kafka", &settings.kafka.brokers, "embedded"),
            sql: name("database", "PostgreSQL", settings.postgres.url.expose_secret(), "SQLite"),
            history: name("history store", "MongoDB", &settings.mongodb.url, "embedded"),
            tickets: name("ticket store", "Redis", &settings.redis.url, "in memory"),
        }
    }
}

/// An engine whose state shows in the readiness of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Log,
    History,
    Tickets,
}

/// Watches engines for `/health/ready`. Databases watch themselves.
pub(crate) fn watch(engines: &Engines, settings: &Settings, watched: &[Watched]) {
    let names = EngineNames::of(settings);
    for engine in watched {
        match engine {
            Watched::Log => {
                let log = engines.log.clone();
                engines.readiness.monitor(&names.log, &engines.shutdown, move || {
                    let log = log.clone();
                    async move { log.check().await }
                });
            }
            Watched::History => {
                let history = engines.history.clone();
                engines.readiness.monitor(&names.history, &engines.shutdown, move || {
                    let history = history.clone();
                    async move { history.check().await }
                });
            }
            Watched::Tickets => {
                let tickets = engines.tickets.clone();
                engines.readiness.monitor(&names.tickets, &engines.shutdown, move || {
                    let tickets = tickets.clone();
                    async move { tickets.check().await }
                });
            }
        }
    }
}
