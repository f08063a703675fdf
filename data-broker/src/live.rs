//! Live readings for sockets: one tail per process, a room per tenant.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{
        Engines, SharedTail, TailLease, TicketStore,
        event_log::{LogError, Record},
    },
    http::Caller,
    shutdown::Shutdown,
    wire::{Subject, Tenant},
};
use serde_json::{Value, value::RawValue};
use socketioxide::{
    SocketIo,
    extract::{Data, Extension, SocketRef, State},
    handler::ConnectHandler,
    layer::SocketIoLayer,
};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::{
    PING_INTERVAL, PING_TIMEOUT,
    config::Config,
    domain::{
        filter::Filter,
        live_event::{self, LiveEvent},
    },
    topics::{OwnTopics, TopicError},
};

/// Namespace of socket.io tokens in the ticket store.
pub(crate) const TOKENS: &str = "socketio";

/// Rooms of sockets that want notifications are apart from those that want readings.
const NOTIFICATION_ROOM: &str = "notifications:";

/// The live side of the service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live {
    io: SocketIo,
    shared: Arc<Shared>,
}

struct Shared {
    tail: SharedTail,
    topics: OwnTopics,
    tickets: TicketStore,
    clock: Clock,
    shutdown: Shutdown,
}

/// What a socket is: remembered from its token until it disconnects.
#[derive(Clone)]
struct Session {
    caller: Caller,
    notifications: bool,
    filter: Arc<Mutex<Filter>>,
    gone: Arc<Notify>,
    /// Keeps the topics of the tenant on the tail for as long as the socket is remembered.
    _leases: Arc<Vec<TailLease>>,
}

fn room(tenant: &Tenant, notifications: bool) -> String {
    if notifications { format!("{NOTIFICATION_ROOM}{tenant}") } else { tenant.to_string() }
}

impl Live {
    /// The live side and the layer that serves `/socket.io`.
    pub(crate) fn new(
        config: &Config,
        topics: OwnTopics,
        engines: &Engines,
    ) -> Result<(Self, SocketIoLayer), LogError> {
        let shared = Arc::new(Shared {
            tail: SharedTail::new(&engines.log, &engines.shutdown)?,
            topics,
            tickets: engines.tickets.clone(),
            clock: engines.clock.clone(),
            shutdown: engines.shutdown.clone(),
        });
        let (layer, io) = SocketIo::builder()
            .ping_interval(PING_INTERVAL)
            .ping_timeout(PING_TIMEOUT)
            .max_buffer_size(config.socket_queue)
            .max_payload(64 * 1024)
            .with_state(Arc::clone(&shared))
            .build_layer();
        io.ns("/", connected.with(authenticate));
        Ok((Self { io, shared }, layer))
    }

    /// Emits what is appended until the end is asked for.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            match self.shared.tail.next_batch(500).await {
                Ok(batch) => {
                    backoff.reset();
                    for record in &batch {
                        self.emit(record).await;
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot read from the log");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Closes all sockets.
    pub(crate) fn close(&self) {
        for socket in self.io.sockets() {
            let _ = socket.disconnect();
        }
    }

    async fn emit(&self, record: &Record) {
        // The room follows the topic's tenant, whatever the message says.
        let tenant = record.topic.tenant();
        let subject = record.topic.subject();
        if subject == Subject::NOTIFICATIONS.as_str() {
            self.notify(tenant, record);
            return;
        }
        let event = if subject == Subject::DEVICE.as_str() {
            live_event::of_actuation(&record.value)
        } else {
            live_event::of_reading(&record.value)
        };
        if let Some(LiveEvent { device, payload }) = event {
            let payload: &RawValue = &payload;
            for name in [device.as_str(), "all"] {
                let sent = self.io.to(room(tenant, false)).emit(name, payload).await;
                if sent.is_err() {
                    metrics::counter!("socketio_dropped_total").increment(1);
                }
            }
            metrics::counter!("socketio_records_total").increment(1);
        }
    }

    fn notify(&self, tenant: &Tenant, record: &Record) {
        let Ok(text) = std::str::from_utf8(&record.value) else { return };
        let Ok(notification) = serde_json::from_str::<Value>(text) else { return };
        for socket in self.io.within(room(tenant, true)).sockets() {
            let passes = socket.extensions.get::<Session>().is_some_and(|session| {
                session.filter.lock().unwrap_or_else(PoisonError::into_inner).passes(&notification)
            });
            if passes && socket.emit("notification", text).is_err() {
                metrics::counter!("socketio_dropped_total").increment(1);
            }
        }
    }
}

/// Why a socket was refused; the texts are the contract's.
#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authentication error: {}", self.0)
    }
}

/// Spends the token and starts reading the topics of its tenant, before the client hears that it is connected.
async fn authenticate(socket: SocketRef, State(shared): State<Arc<Shared>>) -> Result<(), Refused> {
    let query = socket.req_parts().uri.query().unwrap_or_default();
    let parameter = |wanted: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let token = parameter("token").ok_or(Refused("missing token"))?;
    let holder = shared.tickets.take(TOKENS, token).await.map_err(|_| Refused("Failed to verify token"))?;
    let holder = holder.ok_or(Refused("unknown token"))?;
    let caller: Caller = serde_json::from_slice(&holder).map_err(|_| Refused("unknown token"))?;
    let notifications = parameter("subject") == Some(Subject::NOTIFICATIONS.as_str());
    let leases = shared.listen(&caller.tenant, notifications).await.map_err(|error| {
        warn!(%error, tenant = %caller.tenant, "a socket was refused because the log is away");
        Refused("Failed to verify token")
    })?;
    socket.extensions.insert(Session {
        caller,
        notifications,
        filter: Arc::default(),
        gone: Arc::new(Notify::new()),
        _leases: Arc::new(leases),
    });
    Ok(())
}

async fn connected(socket: SocketRef, State(shared): State<Arc<Shared>>) {
    let Some(session) = socket.extensions.get::<Session>() else {
        let _ = socket.disconnect();
        return;
    };
    debug!(tenant = %session.caller.tenant, "socket connected");
    metrics::gauge!("socketio_sockets").increment(1.0);
    socket.join(room(&session.caller.tenant, session.notifications));
    socket.on("filter", async |Extension(session): Extension<Session>, Data(text): Data<String>| {
        if let Some(filter) = Filter::parse(&text) {
            *session.filter.lock().unwrap_or_else(PoisonError::into_inner) = filter;
        }
    });
    socket.on_disconnect(async |Extension(session): Extension<Session>| {
        metrics::gauge!("socketio_sockets").decrement(1.0);
        session.gone.notify_one();
    });
    shared.close_at_expiry(&socket, &session);
}

impl Shared {
    async fn listen(&self, tenant: &Tenant, notifications: bool) -> Result<Vec<TailLease>, TopicError> {
        let subjects: &[Subject] =
            if notifications { &[Subject::NOTIFICATIONS] } else { &[Subject::DEVICE_DATA, Subject::DEVICE] };
        let mut leases = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let topic = self.topics.create(tenant, subject).await?;
            leases.push(self.tail.listen(&topic).await?);
        }
        Ok(leases)
    }

    fn close_at_expiry(&self, socket: &SocketRef, session: &Session) {
        if session.caller.expires_s == 0 {
            return;
        }
        let left_s = (session.caller.expires_s - self.clock.now_s()).max(0) as u64;
        let socket = socket.clone();
        let gone = Arc::clone(&session.gone);
        let stop = self.shutdown.clone();
        self.shutdown.spawn("socket expiry", async move {
            let leaves = tokio::time::timeout(Duration::from_secs(left_s), gone.notified());
            if let Some(Err(_expired)) = stop.unless_requested(leaves).await {
                let _ = socket.disconnect();
            }
        });
    }
}
