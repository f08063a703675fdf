//! What librdkafka tells beside records goes to our log.

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, info, warn};

/// The context of clients that need no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        report(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A broker that is away is reported with every attempt of every client; `report` tells it better.
        _ if matches!(facility, "FAIL" | "ERROR" | "MAXPOLL") => debug!(facility, message, "kafka"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => warn!(facility, message, "kafka"),
        RDKafkaLogLevel::Notice => info!(facility, message, "kafka"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(facility, message, "kafka"),
    }
}

pub(super) fn report(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // One of many attempts; that no broker is left is the news.
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::PartitionEOF,
        ) => debug!(reason, "kafka"),
        // Subscriptions to what does not exist yet, or not any more, are in order.
        Some(code) if super::is_unknown_topic(code) => debug!(reason, "kafka"),
        _ => warn!(%error, reason, "kafka"),
    }
}
