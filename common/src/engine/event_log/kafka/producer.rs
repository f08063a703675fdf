//! Appending: idempotent, bounded by bytes, without a future per record.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rdkafka::{
    ClientContext, Message,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::Semaphore;
use tracing::error;

use super::{
    KafkaLog, KafkaSettings, blocking, client_config,
    context::{self, Journal},
    is_unknown_topic, log_error,
};
use crate::{
    backoff::Backoff,
    engine::event_log::{Delivery, LogError, NewRecord, Position},
    wire::Topic,
};

/// A record that librdkafka has.
pub(super) struct InFlight {
    delivery: Delivery,
    /// Room that it takes.
    room: usize,
}

/// Receives the delivery reports, in librdkafka's thread.
pub(super) struct Reports {
    room: Arc<Semaphore>,
    journal: Journal,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.journal.report(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        let InFlight { delivery, room } = *in_flight;
        delivery.complete(match result {
            Ok(message) => Ok(Position { partition: message.partition(), offset: message.offset() }),
            Err((error, message)) => Err(refusal(error, message.topic())),
        });
        // After the delivery, because `flush` takes room for proof of it.
        self.room.add_permits(room);
    }
}

pub(super) type Client = ThreadedProducer<Reports>;

/// The producer of a process.
pub(super) struct Producer {
    settings: KafkaSettings,
    capacity: usize,
    room: Arc<Semaphore>,
    current: RwLock<Arc<Client>>,
    /// Held while the client is replaced, so that it is replaced once.
    replacing: Mutex<()>,
}

impl Producer {
    /// What librdkafka needs for a record beside its bytes, about.
    const OVERHEAD: usize = 256;

    pub(super) fn start(settings: &KafkaSettings, capacity: usize) -> Result<Self, LogError> {
        let capacity = capacity.clamp(1, u32::MAX as usize);
        let room = Arc::new(Semaphore::new(capacity));
        let client = start_client(settings, &room).map_err(log_error)?;
        let current = RwLock::new(Arc::new(client));
        Ok(Self { settings: settings.clone(), capacity, room, current, replacing: Mutex::default() })
    }

    pub(super) fn current(&self) -> Arc<Client> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for room and hands a record to librdkafka, which keeps it until a broker has it.
    pub(super) async fn produce(&self, record: NewRecord, delivery: Delivery) {
        let room = (record.size() + Self::OVERHEAD).min(self.capacity);
        match self.room.acquire_many(room as u32).await {
            // Given back with the delivery report.
            Ok(permit) => permit.forget(),
            Err(_) => return,
        }
        self.send(&record, Box::new(InFlight { delivery, room }));
    }

    fn send(&self, record: &NewRecord, in_flight: Box<InFlight>) {
        let mut in_flight = in_flight;
        // A second attempt is made with a new client; a third would not change anything.
        for _ in 0..2 {
            let client = self.current();
            let Err((error, refused)) = client.send(kafka_record(record, in_flight)) else { return };
            in_flight = refused.delivery_opaque;
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) || !self.replace(&client) {
                let InFlight { delivery, room } = *in_flight;
                self.room.add_permits(room);
                return delivery.complete(Err(refusal(&error, record.topic.as_str())));
            }
        }
        let InFlight { delivery, room } = *in_flight;
        self.room.add_permits(room);
        delivery.complete(Err(LogError::Unavailable("Kafka's client has failed".to_owned())));
    }

    /// An idempotent producer that lost track of its sequence numbers never works again, by design. Returns whether
    /// there is another one.
    fn replace(&self, broken: &Arc<Client>) -> bool {
        let _once = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(broken, &self.current()) {
            return true;
        }
        match start_client(&self.settings, &self.room) {
            Ok(client) => {
                error!("Kafka's producer has failed and is replaced");
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                let broken = std::mem::replace(&mut *current, Arc::new(client));
                // Dropping waits for its threads.
                std::thread::spawn(move || drop(broken));
                true
            }
            Err(failure) => {
                error!(error = %failure, "Kafka's producer has failed and cannot be replaced");
                false
            }
        }
    }

    /// Waits until everything that is on its way now has arrived or was given up.
    pub(super) async fn flush(&self) {
        // Nothing is on its way when all the room can be had. The semaphore is never closed.
        let _ = self.room.acquire_many(self.capacity as u32).await;
    }

    /// Waits until this client sees that a topic exists, with a leader for each partition, or that it does not.
    pub(super) async fn until_known(&self, topic: &Topic, expected: bool) -> Result<(), LogError> {
        let mut backoff = Backoff::up_to(std::time::Duration::from_millis(500));
        let wait = async {
            loop {
                let (client, name) = (self.current(), topic.clone());
                let exists = blocking(move || exists(&client, name.as_str())).await?;
                if exists == expected {
                    return Ok(());
                }
                backoff.wait().await;
            }
        };
        let late = |_| Err(LogError::Unavailable(format!("the brokers are not agreed on topic {topic} yet")));
        tokio::time::timeout(4 * KafkaLog::TIMEOUT, wait).await.unwrap_or_else(late)
    }
}

fn exists(client: &Client, topic: &str) -> Result<bool, KafkaError> {
    let metadata = client.client().fetch_metadata(Some(topic), KafkaLog::TIMEOUT)?;
    Ok(metadata.topics().iter().any(|it| {
        let has_leaders = it.partitions().iter().all(|partition| partition.leader() >= 0);
        it.name() == topic && it.error().is_none() && !it.partitions().is_empty() && has_leaders
    }))
}

fn start_client(settings: &KafkaSettings, room: &Arc<Semaphore>) -> Result<Client, KafkaError> {
    let mut config = client_config(settings);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Records wait for brokers as long as it takes; producers wait for room meanwhile.
        .set("message.timeout.ms", "0")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        // As Java's clients do it, so that a key has one partition whoever appends.
        .set("partitioner", "murmur2_random")
        // The room is counted here, and more precisely.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("message.max.bytes", "2097152")
        // A topic that is not there is reported after this time, unless it was created a moment ago.
        .set("topic.metadata.propagation.max.ms", "3000")
        .set("topic.metadata.refresh.interval.ms", "30000");
    ThreadedProducer::from_config_and_context(
        &config,
        Reports { room: Arc::clone(room), journal: Journal::default() },
    )
}

fn kafka_record(record: &NewRecord, in_flight: Box<InFlight>) -> BaseRecord<'_, [u8], [u8], Box<InFlight>> {
    let mut out = BaseRecord::with_opaque_to(record.topic.as_str(), in_flight).payload(record.value.as_ref());
    if let Some(key) = &record.key {
        out = out.key(key.as_ref());
    }
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_ref()) });
        }
        out = out.headers(headers);
    }
    out
}

fn refusal(error: &KafkaError, topic: &str) -> LogError {
    match error.rdkafka_error_code() {
        Some(code) if is_unknown_topic(code) => LogError::UnknownTopic(topic.to_owned()),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            LogError::TooLarge
        }
        Some(
            RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidRecord,
        ) => LogError::Failed(error.to_string()),
        _ => LogError::Unavailable(error.to_string()),
    }
}
