//! Relational databases: PostgreSQL, or SQLite in this process. One database per service.
//!
//! SQL is written once for both: `$1` placeholders; text, bigint, smallint for booleans, JSON as text; identifiers
//! are made by the application.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::{
    AnyPool, Connection, Executor, any::AnyPoolOptions, migrate::Migrator, postgres::PgConnectOptions,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{outbox, purge};
use crate::{backoff::Backoff, http::admin::ReadyFlag};

/// Where PostgreSQL is, section `postgres` of the settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`; empty for SQLite.
    pub url: SecretString,
    /// Connections that each service of the process may hold.
    pub max_connections: u32,
}

impl PostgresSettings {
    /// Says what is wrong with the URL, before anything waits for an engine that it does not name.
    pub fn validate(&self) -> anyhow::Result<()> {
        let url = self.url.expose_secret();
        if url.is_empty() {
            return Ok(());
        }
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        anyhow::ensure!(is_postgres, "the URL must look like postgres://user:password@host:port/database");
        PgConnectOptions::from_str(url).map(drop).context("the URL cannot be read")
    }
}

/// Opens databases of one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub enum SqlEngine {
    /// Schemas of one PostgreSQL database.
    Postgres(PostgresSettings),
    /// Files in a directory.
    Sqlite(PathBuf),
}

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The engine cannot be reached or its schema is not there yet; trying again later may help.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A unique or foreign key says no.
    #[error("constraint {constraint} is violated")]
    Constraint {
        /// Name of the constraint where the engine tells it, else its message.
        constraint: String,
    },
    /// The tenant is gone, and everything of it: see [`fence`](super::purge::fence).
    #[error("the tenant is gone")]
    TenantGone,
    /// Anything else.
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                // 08: connection lost; 57P: the server shuts down or starts; 53: out of connections or disk.
                let is_away = ["08", "57P", "53"].iter().any(|class| code.starts_with(class));
                if is_away || is_trouble_of_sqlite(&code) {
                    Self::Unavailable(error.to_string())
                } else if database.is_unique_violation() || database.is_foreign_key_violation() {
                    let constraint = database.constraint().unwrap_or_else(|| database.message()).to_owned();
                    Self::Constraint { constraint }
                } else {
                    Self::Failed(error)
                }
            }
            _ => Self::Failed(error),
        }
    }
}

/// Whether SQLite is locked for longer than its time-out (5, 6) or its disk fails, is full or cannot be opened (10, 13, 14).
/// PostgreSQL's codes have five characters, SQLite's have fewer; what is above the lowest byte tells details.
fn is_trouble_of_sqlite(code: &str) -> bool {
    let code = if code.len() < 5 { code.parse::<u16>().ok() } else { None };
    code.is_some_and(|code| [5, 6, 10, 13, 14].contains(&(code & 0xff)))
}

/// The database of one service. Cheap to clone.
#[derive(Clone)]
pub struct Sql {
    pool: AnyPool,
    /// How a transaction begins: SQLite takes the write lock at once, so that it never has to upgrade.
    begin: &'static str,
    migrated: watch::Receiver<bool>,
}

impl SqlEngine {
    const BEGIN_POSTGRES: &'static str = "BEGIN";
    const SQLITE_PRAGMAS: &'static str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000; PRAGMA cache_size = -8192";

    /// Opens the database of `service`, without waiting for it: its migrations run and the tables of its outbox are made
    /// as soon as the engine is there, and until then every use answers [`SqlError::Unavailable`].
    pub fn open(
        &self,
        service: &'static str,
        migrator: Migrator,
        ready: ReadyFlag,
        shutdown: &crate::shutdown::Shutdown,
    ) -> Result<Sql, SqlError> {
        sqlx::any::install_default_drivers();
        let (pool, begin) = match self {
            Self::Postgres(settings) => (Self::postgres_pool(settings, service)?, Self::BEGIN_POSTGRES),
            Self::Sqlite(directory) => {
                (Self::sqlite_pool(&directory.join(format!("{service}.db")))?, "BEGIN IMMEDIATE")
            }
        };
        let (migrated, is_migrated) = watch::channel(false);
        let task = Self::prepare(
            pool.clone(),
            matches!(self, Self::Postgres(_)),
            service,
            migrator,
            migrated,
            ready,
        );
        let stop = shutdown.clone();
        shutdown.spawn("migrations", async move {
            stop.unless_requested(task).await;
        });
        Ok(Sql { pool, begin, migrated: is_migrated })
    }

    /// Whether the engine answers, without opening a service's database.
    pub async fn check(&self) -> Result<(), SqlError> {
        if let Self::Postgres(settings) = self {
            sqlx::any::install_default_drivers();
            // Without a pool, whose time-out would hide why there is no connection.
            let mut connection = sqlx::AnyConnection::connect(settings.url.expose_secret()).await?;
            sqlx::query("SELECT 1").execute(&mut connection).await?;
        }
        Ok(())
    }

    fn postgres_pool(settings: &PostgresSettings, service: &str) -> Result<AnyPool, SqlError> {
        let schema = schema_of(service);
        let set_path: Arc<str> =
            format!("SET search_path TO {schema}; SET statement_timeout TO '10s'").into();
        Ok(AnyPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(3))
            .idle_timeout(Duration::from_mins(5))
            .after_connect(move |connection, _| {
                let set_path = Arc::clone(&set_path);
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(&*set_path))).await.map(drop)
                })
            })
            .connect_lazy(settings.url.expose_secret())?)
    }

    fn sqlite_pool(file: &std::path::Path) -> Result<AnyPool, SqlError> {
        Ok(AnyPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(3))
            // A full disk ends a transaction inside SQLite, and sqlx goes on counting it: such a connection could never begin
            // another, so it is replaced.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .after_connect(|connection, _| {
                Box::pin(
                    async move { connection.execute(sqlx::raw_sql(Self::SQLITE_PRAGMAS)).await.map(drop) },
                )
            })
            .connect_lazy(&format!("sqlite://{}?mode=rwc", file.display()))?)
    }

    async fn prepare(
        pool: AnyPool,
        has_schemas: bool,
        service: &'static str,
        migrator: Migrator,
        migrated: watch::Sender<bool>,
        ready: ReadyFlag,
    ) {
        let mut backoff = Backoff::default();
        loop {
            match Self::migrate(&pool, has_schemas, service, &migrator).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(service, %error, "the database is not ready yet");
                    ready.not_ready(format!("database: {error}"));
                }
            }
            backoff.wait().await;
        }
        info!(service, "the database is ready");
        // Nobody listens any more only when the service is gone.
        let _ = migrated.send(true);
        Self::keep_checking(&pool, &ready).await;
    }

    /// Readiness follows the engine: it may go away and come back.
    async fn keep_checking(pool: &AnyPool, ready: &ReadyFlag) {
        let mut every = tokio::time::interval(Duration::from_secs(2));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match sqlx::query("SELECT 1").execute(pool).await {
                Ok(_) => ready.ready(),
                Err(error) => ready.not_ready(format!("database: {error}")),
            }
        }
    }

    async fn migrate(
        pool: &AnyPool,
        has_schemas: bool,
        service: &str,
        migrator: &Migrator,
    ) -> Result<(), anyhow::Error> {
        if has_schemas {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {}", schema_of(service));
            // Two instances that start together may both find it missing, as they may with the tables below; the loser
            // tries again.
            sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(pool).await?;
        }
        migrator.run(pool).await?;
        for tables in [outbox::TABLES, purge::TABLE] {
            sqlx::raw_sql(tables).execute(pool).await?;
        }
        Ok(())
    }
}

/// Name of a service as an SQL identifier. Service names are ours: lower-case words and dashes.
fn schema_of(service: &str) -> String {
    service.replace('-', "_")
}

impl Sql {
    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, SqlError> {
        Ok(self.pool()?.begin_with(self.begin).await?)
    }

    /// Whether no other process uses the database: that of SQLite belongs to one.
    pub fn is_ours_alone(&self) -> bool {
        self.begin != SqlEngine::BEGIN_POSTGRES
    }

    /// The pool, for reading or for a single statement.
    pub fn pool(&self) -> Result<&AnyPool, SqlError> {
        if *self.migrated.borrow() {
            Ok(&self.pool)
        } else {
            Err(SqlError::Unavailable("its tables are not there yet".to_owned()))
        }
    }

    /// How many statements may run at a time.
    pub fn max_connections(&self) -> usize {
        self.pool.options().get_max_connections() as usize
    }

    /// Waits until the tables are there.
    pub async fn migrated(&self) {
        let mut migrated = self.migrated.clone();
        // The sender goes away only when the process ends.
        let _ = migrated.wait_for(|done| *done).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_other_engines_are_refused() {
        let validate = |url: &str| PostgresSettings { url: url.into(), max_connections: 1 }.validate();
        for url in ["", "postgres://u:p@h/d", "postgresql://h:5432/d?sslmode=require", "postgres://[::1]/d"] {
            validate(url).unwrap();
        }
        for url in ["mysql://u:secret@h/d", "u:secret@h/d", "postgres://u:secret@h:port/d", "sqlite://secret"]
        {
            let error = format!("{:#}", validate(url).unwrap_err());
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
