//! Subscriptions.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        Path, Query, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use common::{
    backoff::Backoff,
    clock::Clock,
    engine::{TicketStore, event_log::LogError},
    http::{Problem, client::CallError},
    revocation::Revocations,
    shutdown::Shutdown,
    slots::Slots,
    tenancy::Topics,
    wire::{Subject, Topic},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    TICKETS,
    config::Config,
    domain::{
        close::Close,
        lifetime::Lifetime,
        query::{self, BadQuery},
        ticket::{Pass, Ticket},
    },
    fanout::{Fanout, Subscription},
    session::{self, Session},
};

/// How long a handshake may wait for the log.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client sends is ignored, so little of it is read.
const MAX_INBOUND_BYTES: usize = 4 * 1024;
/// Larger would be memory that an idle socket holds.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Frames are collected up to here before they are written.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// A life without an end of its own: long enough for any socket, short enough for any timer.
const LONGEST_LIFE_S: i64 = 365 * 24 * 3600;

/// Where subscriptions come from.
#[derive(Clone)]
pub(crate) struct Subscriptions {
    pub(crate) config: Arc<Config>,
    pub(crate) tickets: TicketStore,
    pub(crate) topics: Topics,
    pub(crate) fanout: Fanout,
    pub(crate) slots: Slots,
    pub(crate) revocations: Revocations,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
}

/// Opens a websocket on a topic, for the holder of a ticket.
pub(crate) async fn subscribe(
    State(subscriptions): State<Subscriptions>,
    Path(topic): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let query = query::parse(&parameters).map_err(refused)?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return subscriptions.explain(&query.ticket, &rejection).await,
    };
    if query.has_filters {
        return Err(Problem::bad_request("filters are not supported yet"));
    }
    let pass = subscriptions.spend(&query.ticket).await?;
    let Some(slot) = subscriptions.slots.take(&pass.tenant) else {
        info!(tenant = %pass.tenant, "a socket was refused because there are too many");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many connections"));
    };
    let upgrade = upgrade
        .max_message_size(MAX_INBOUND_BYTES)
        .max_frame_size(MAX_INBOUND_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    let subscription = match subscriptions.join(&topic, &pass).await {
        Ok(subscription) => subscription,
        Err(close) => return Ok(close_at_once(upgrade, close, &subscriptions.shutdown)),
    };
    let shutdown = subscriptions.shutdown.clone();
    let session = Session {
        subscription,
        slot,
        until: subscriptions.end_of(&pass),
        ping_interval: Duration::from_secs(subscriptions.config.ping_interval_s),
        shutdown: shutdown.clone(),
    };
    // The task of the handshake ends here: sockets belong to the process, which waits for them when it stops.
    Ok(upgrade.on_upgrade(async move |socket| shutdown.spawn("websocket", session.run(socket))))
}

impl Subscriptions {
    /// Answers a request that is no websocket handshake, without spending the ticket.
    async fn explain(&self, ticket: &Ticket, why: &WebSocketUpgradeRejection) -> Result<Response, Problem> {
        if self.tickets.peek(TICKETS, ticket.as_str()).await?.is_none() {
            return Err(refused(BadQuery::InvalidTicket));
        }
        let is_plain = !matches!(
            why,
            WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)
                | WebSocketUpgradeRejection::WebSocketKeyHeaderMissing(_)
        );
        if !is_plain {
            return Err(Problem::bad_request(why.body_text()));
        }
        let problem =
            Problem::new(StatusCode::UPGRADE_REQUIRED, "This path takes websocket connections only");
        let mut response = problem.into_response();
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Ok(response)
    }

    /// Takes the ticket out of the store: it is good once.
    async fn spend(&self, ticket: &Ticket) -> Result<Pass, Problem> {
        self.revocations.heard().await?;
        let pass = self.tickets.take(TICKETS, ticket.as_str()).await?;
        let pass: Option<Pass> = pass.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        pass.filter(|pass| !self.revocations.covers(pass.holder))
            .ok_or_else(|| refused(BadQuery::InvalidTicket))
    }

    /// Joins a topic of the tenant. One of a common subject is created if need be; any other has to be there.
    async fn join(&self, topic: &str, pass: &Pass) -> Result<Subscription, Close> {
        let topic = Topic::parse(topic).ok().filter(|topic| *topic.tenant() == pass.tenant);
        let Some(topic) = topic else {
            info!(tenant = %pass.tenant, "a socket was refused because the topic is not the tenant's");
            return Err(Close::Forbidden);
        };
        let subject = Subject::parse(topic.subject()).map_err(|_| Close::Forbidden)?;
        let join = async {
            if subject.is_common() {
                self.join_common(&subject, pass).await
            } else {
                self.fanout.join(&topic, pass).await.map_err(JoinError::Log)
            }
        };
        let joined = tokio::time::timeout(JOIN_TIMEOUT, join).await.unwrap_or(Err(JoinError::Timeout));
        let subscription = joined.map_err(|error| error.close(&topic))?;
        // Whoever ends the sockets of a user finds this one from now on, but may have looked a moment ago.
        if self.revocations.covers(pass.holder) { Err(Close::Lifetime) } else { Ok(subscription) }
    }

    /// Tries until the log knows the topic; callers set the time-out.
    async fn join_common(&self, subject: &Subject, pass: &Pass) -> Result<Subscription, JoinError> {
        let mut backoff = Backoff::up_to(JOIN_TIMEOUT / 10);
        loop {
            let topic = self.topics.resolve(&pass.tenant, subject).await.map_err(JoinError::Broker)?;
            match self.fanout.join(&topic, pass).await {
                // It was created a moment ago, or deleted after we had asked for it: data-broker may create it again.
                Err(LogError::UnknownTopic(_)) => self.topics.forget(&pass.tenant, subject),
                result => return result.map_err(JoinError::Log),
            }
            backoff.wait().await;
        }
    }

    fn end_of(&self, pass: &Pass) -> Instant {
        let rule = Lifetime { max_s: self.config.max_lifetime_s, outlive_token: self.config.outlive_token };
        let now = self.clock.now_s();
        let left = rule.end(now, pass.expires).saturating_sub(now).clamp(0, LONGEST_LIFE_S);
        Instant::now() + Duration::from_secs(left.unsigned_abs())
    }
}

enum JoinError {
    Broker(CallError),
    Log(LogError),
    Timeout,
}

impl JoinError {
    fn close(self, topic: &Topic) -> Close {
        match self {
            Self::Broker(CallError::Refused { .. }) => Close::Forbidden,
            Self::Log(LogError::UnknownTopic(_)) => {
                info!(%topic, "a socket was refused because there is no such topic");
                Close::Forbidden
            }
            Self::Broker(error) => {
                warn!(%topic, %error, "a socket was refused because the topic cannot be asked for");
                Close::Unavailable
            }
            Self::Log(error) => {
                warn!(%topic, %error, "a socket was refused because the log is away");
                Close::Unavailable
            }
            Self::Timeout => {
                warn!(%topic, "a socket was refused because the log does not answer");
                Close::Unavailable
            }
        }
    }
}

fn refused(why: BadQuery) -> Problem {
    let message = match why {
        BadQuery::MissingTicket => "Missing ticket",
        BadQuery::InvalidTicket => "Invalid ticket",
    };
    Problem::new(StatusCode::UNAUTHORIZED, message)
}

/// Opens the socket only to say why it is closed: browsers show close codes and hide HTTP answers.
fn close_at_once(upgrade: WebSocketUpgrade, close: Close, shutdown: &Shutdown) -> Response {
    let shutdown = shutdown.clone();
    upgrade.on_upgrade(async move |socket| shutdown.spawn("websocket", session::say_goodbye(socket, close)))
}
