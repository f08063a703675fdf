//! What librdkafka tells beside records goes to our log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, info, warn};

/// The context of clients that need no other.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    journal: Journal,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.journal.report(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// What one client has to tell, without repeating itself.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// When it was last told that all brokers are away.
    outage: Mutex<Option<Instant>>,
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A broker that is away is reported with every attempt of every client; `report` tells it better.
        _ if matches!(facility, "FAIL" | "ERROR" | "MAXPOLL") => debug!(facility, reason = message, "kafka"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => warn!(facility, reason = message, "kafka"),
        RDKafkaLogLevel::Notice => info!(facility, reason = message, "kafka"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(facility, reason = message, "kafka"),
    }
}

impl Journal {
    const REPEAT_AFTER: Duration = Duration::from_secs(30);

    pub(super) fn report(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // One of many attempts; that no broker is left is the news.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::PartitionEOF,
            ) => debug!(reason, "kafka"),
            // It is told again with every attempt to connect.
            Some(RDKafkaErrorCode::AllBrokersDown) if !self.is_news() => debug!(reason, "kafka"),
            // Subscriptions to what does not exist yet, or not any more, are in order.
            Some(code) if super::is_unknown_topic(code) => debug!(reason, "kafka"),
            _ => warn!(%error, reason, "kafka"),
        }
    }

    fn is_news(&self) -> bool {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = outage.is_none_or(|told| told.elapsed() >= Self::REPEAT_AFTER);
        if is_news {
            *outage = Some(Instant::now());
        }
        is_news
    }
}
