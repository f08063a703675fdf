//! Tickets in Redis, for services in many processes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{
    Client, Cmd, FromRedisValue, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{RedisSettings, TicketError};

/// Values with an expiry in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisTickets {
    client: Client,
    line: Arc<Mutex<Line>>,
}

/// The one multiplexed connection of all callers, and how often it was given up.
#[derive(Default)]
struct Line {
    manager: Option<ConnectionManager>,
    generation: u64,
}

impl RedisTickets {
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

    pub(super) fn new(settings: &RedisSettings) -> Result<Self, TicketError> {
        let client = Client::open(settings.url.as_str()).map_err(|error| told(&error))?;
        Ok(Self { client, line: Arc::default() })
    }

    pub(super) async fn put(
        &self,
        namespace: &str,
        key: &str,
        value: &[u8],
        ttl: Duration,
    ) -> Result<(), TicketError> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1);
        let mut command = redis::cmd("SET");
        command.arg(name(namespace, key)).arg(value).arg("PX").arg(ttl_ms);
        self.ask(&command).await
    }

    /// Redis runs one command at a time, so one `GETDEL` finds the value and all others find nothing. When the
    /// answer is lost the value is lost with it: a ticket is used at most once, even then.
    pub(super) async fn take(&self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        self.ask(redis::cmd("GETDEL").arg(name(namespace, key))).await
    }

    pub(super) async fn peek(&self, namespace: &str, key: &str) -> Result<Option<Vec<u8>>, TicketError> {
        self.ask(redis::cmd("GET").arg(name(namespace, key))).await
    }

    pub(super) async fn check(&self) -> Result<(), TicketError> {
        self.ask::<String>(&redis::cmd("PING")).await.map(drop)
    }

    /// Sends a command. A connection that turns out to be broken is replaced, and the command is sent once more.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, TicketError> {
        let error = match self.ask_once(command).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // Having waited once is enough, and what Redis itself says does not change by asking again.
        let is_worth_another = is_of_the_line(&error) && !error.is_timeout();
        if is_worth_another {
            self.ask_once(command).await.map_err(|error| told(&error))
        } else {
            Err(told(&error))
        }
    }

    async fn ask_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let (mut manager, generation) = self.manager()?;
        let answer = command.query_async(&mut manager).await;
        if let Err(error) = &answer
            && is_of_the_line(error)
        {
            self.give_up(generation);
        }
        answer
    }

    fn manager(&self) -> Result<(ConnectionManager, u64), RedisError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = line.generation;
        if let Some(manager) = &line.manager {
            return Ok((manager.clone(), generation));
        }
        // No attempts of its own: each of our calls is one, so that callers never wait for a series of them.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(Self::CONNECT_TIMEOUT))
            .set_response_timeout(Some(Self::RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(1000);
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        line.manager = Some(manager.clone());
        Ok((manager, generation))
    }

    /// Drops a connection, unless another caller has replaced it already. The manager alone would keep a connection
    /// whose other end has vanished without a word.
    fn give_up(&self, generation: u64) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.generation == generation {
            line.generation += 1;
            line.manager = None;
        }
    }
}

/// Whether it is the connection that failed, and not the command.
fn is_of_the_line(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

fn told(error: &RedisError) -> TicketError {
    TicketError(error.to_string())
}

/// A colon in a namespace is escaped, so that two namespaces never share a key.
fn name(namespace: &str, key: &str) -> String {
    format!("tatami:{}:{key}", namespace.replace('%', "%25").replace(':', "%3A"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_never_share_a_key() {
        assert_eq!(name("kafka-ws", "k"), "tatami:kafka-ws:k");
        assert_ne!(name("a", "b:c"), name("a:b", "c"));
        assert_ne!(name("a%3Ab", "c"), name("a:b", "c"));
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        assert!(RedisTickets::new(&RedisSettings { url: "http://x".to_owned() }).is_err());
    }
}
