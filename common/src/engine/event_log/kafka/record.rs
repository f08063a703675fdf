//! Records as librdkafka lends them become ours.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rdkafka::{
    Message,
    consumer::{ConsumerContext, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use tracing::{debug, warn};

use super::{is_unknown_topic, log_error};
use crate::{
    engine::event_log::{LogError, Record},
    wire::Topic,
};

/// A batch must not fill the memory when its records are large.
const MAX_BYTES: usize = 8 << 20;

/// Waits for records and returns between 1 and `max` of those that `accept` knows the topic of.
///
/// Safe to cancel: what was taken from librdkafka is returned without another wait.
pub(super) async fn next_batch<C: ConsumerContext + 'static>(
    consumer: &StreamConsumer<C>,
    max: usize,
    mut accept: impl FnMut(&BorrowedMessage<'_>) -> Option<Topic>,
) -> Result<Vec<Record>, LogError> {
    let mut messages = consumer.stream();
    let (mut records, mut bytes) = (Vec::new(), 0);
    loop {
        let message =
            if records.is_empty() { messages.next().await } else { messages.next().now_or_never().flatten() };
        match message {
            Some(Ok(message)) => {
                if let Some(topic) = accept(&message) {
                    bytes += message.payload_len();
                    records.push(detach(&message, topic));
                }
            }
            Some(Err(error)) => match verdict(error) {
                // What is at hand is returned first; the error comes again if it lasts.
                Err(_) if !records.is_empty() => return Ok(records),
                Err(error) => return Err(error),
                Ok(()) => {}
            },
            None => return Ok(records),
        }
        if records.len() >= max.max(1) || bytes >= MAX_BYTES {
            return Ok(records);
        }
    }
}

/// Most errors pass by themselves; librdkafka goes on trying.
fn verdict(error: KafkaError) -> Result<(), LogError> {
    match &error {
        KafkaError::PartitionEOF(_) => return Ok(()),
        KafkaError::MessageConsumptionFatal(_) => return Err(LogError::Failed(error.to_string())),
        _ => {}
    }
    match error.rdkafka_error_code() {
        // Topics that do not exist yet, or not any more.
        Some(code) if is_unknown_topic(code) => debug!(%error, "a topic is not there"),
        Some(
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut,
        ) => debug!(%error, "brokers are away"),
        Some(
            RDKafkaErrorCode::PollExceeded
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::AutoOffsetReset,
        ) => warn!(%error, "the position in the log was lost, reading goes on"),
        _ => return Err(log_error(error)),
    }
    Ok(())
}

fn detach(message: &BorrowedMessage<'_>, topic: Topic) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        headers: headers
            .map(|header| (header.key.into(), header.value.map(Bytes::copy_from_slice).unwrap_or_default()))
            .collect(),
    }
}
