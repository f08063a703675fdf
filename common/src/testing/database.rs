//! A PostgreSQL database for one test, where the schema of a service is not enough.

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use super::{TestEngines, real_engine};
use crate::engine::{SqlEngine, sql::PostgresSettings};

/// A database of its own on the real PostgreSQL; nothing with embedded engines, which have their files. Removed by
/// [`OwnDatabase::remove`].
#[derive(Debug)]
pub struct OwnDatabase(Option<String>);

impl OwnDatabase {
    /// Makes the database and lets the engines use it.
    pub async fn give(test: &mut TestEngines) -> Self {
        if test.kind != "real" {
            return Self(None);
        }
        let name = format!("test_{}", Uuid::new_v4().simple());
        administer(&format!("CREATE DATABASE {name}")).await;
        let settings = PostgresSettings { url: url_of(&name).into(), max_connections: 8 };
        test.engines.sql = SqlEngine::Postgres(settings);
        Self(Some(name))
    }

    /// Removes the database, whoever is connected.
    pub async fn remove(self) {
        if let Some(name) = self.0 {
            administer(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

fn url_of(database: &str) -> String {
    let url = real_engine("POSTGRES");
    let (server, rest) = url.rsplit_once('/').expect("a URL with a database");
    let query = rest.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    format!("{server}/{database}{query}")
}

async fn administer(statement: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&real_engine("POSTGRES")).await.expect("PostgreSQL answers");
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())))
        .await
        .expect("the statement works");
}
