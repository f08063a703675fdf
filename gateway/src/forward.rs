//! Hands a request to an instance and its answer to the client, without collecting either.

use std::{
    error::Error,
    iter,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::StatusCode,
    response::Response,
};
use bytes::BytesMut;
use hyper::body::{Frame, SizeHint};
use tokio::{net::TcpStream, time::Instant};
use tracing::{debug, warn};

use crate::{
    config::Config,
    connections::{Connection, Limits, Outgoing, SendError},
    dispatch::InUse,
    domain::answer::{Decoder, Head},
    error::Refusal,
    session::Learner,
};

/// How services are talked to.
pub(crate) struct Forwarder {
    pub(crate) limits: Limits,
    response_timeout: Duration,
    body_pause: Duration,
}

impl Forwarder {
    /// For a gateway whose connections are on so many threads.
    pub(crate) fn new(config: &Config, threads: usize) -> Self {
        Self {
            limits: Limits {
                connect: Duration::from_millis(config.connect_timeout_ms),
                keep_alive: Duration::from_millis(config.keep_alive_ms),
                max_idle: config.max_idle_connections.div_ceil(threads.max(1)),
            },
            response_timeout: Duration::from_millis(config.response_timeout_ms),
            body_pause: Duration::from_millis(config.body_pause_ms),
        }
    }

    /// The moment until which a service that is asked now must have begun to answer.
    pub(crate) fn deadline(&self, timeout_ms: Option<u64>) -> Instant {
        Instant::now() + timeout_ms.map_or(self.response_timeout, Duration::from_millis)
    }

    /// Sends a request that is ready to go and waits until the instance begins to answer.
    pub(crate) async fn send(
        &self,
        instance: InUse,
        request: &mut Outgoing<'_>,
    ) -> Result<Response<Answer>, Failure> {
        let address = &instance.target;
        let sent = address.connections.send(&address.dialled, request, &self.limits).await;
        let (head, connection) = sent.map_err(Failure::of)?;
        let Head { status, headers, body: decoder, keeps_connection } = head;
        let mut answer = Answer {
            decoder,
            connection: Some(connection),
            keeps_connection,
            instance,
            limits: self.limits,
            longest_pause: self.body_pause,
            pause_ends: None,
            learner: None,
        };
        // What becomes another protocol goes on.
        if status != StatusCode::SWITCHING_PROTOCOLS && decoder.is_done() {
            answer.end();
        }
        let mut response = Response::new(answer);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The answer for the client.
    pub(crate) fn receive(response: Response<Answer>, learner: Option<Learner>) -> Response {
        response.map(|answer| {
            if answer.is_end_stream() { Body::empty() } else { Body::new(Answer { learner, ..answer }) }
        })
    }
}

/// A service gave no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the client is told.
    pub(crate) refusal: Refusal,
    /// How far it got.
    pub(crate) stage: Stage,
}

/// How far a request without an answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was sent: there was no connection.
    NotSent,
    /// The connection ended without an answer.
    Sent,
    /// The time for an answer is over.
    TooLate,
    /// The client did not send what it should; the service is not to blame.
    Client,
}

impl Failure {
    /// What a failed attempt means for the client (dojot-api.md 1.5).
    fn of(error: SendError) -> Self {
        if let SendError::Client(refusal) = error {
            return Self { refusal, stage: Stage::Client };
        }
        let chain = iter::successors(Some(&error as &(dyn Error + 'static)), |error| (*error).source());
        let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let (refusal, stage) = match error {
            SendError::Unsent(_) | SendError::Connect(_) => (Refusal::Upstream, Stage::NotSent),
            SendError::ConnectTimeout => (Refusal::Timeout, Stage::NotSent),
            SendError::Name(_) => (Refusal::Name, Stage::NotSent),
            SendError::Timeout => (Refusal::Timeout, Stage::TooLate),
            _ => (Refusal::Upstream, Stage::Sent),
        };
        if stage == Stage::NotSent {
            warn!(error = text, "a service cannot be reached");
        } else {
            debug!(error = text, "a service did not answer as it should");
        }
        Self { refusal, stage }
    }
}

/// The body of an answer. It ends with an error when the service pauses for too long; its connection can be used again after
/// the end.
pub(crate) struct Answer {
    decoder: Decoder,
    /// There until the end of the body.
    connection: Option<Connection>,
    keeps_connection: bool,
    /// Counts as busy until this is dropped.
    instance: InUse,
    limits: Limits,
    longest_pause: Duration,
    /// There while the service pauses.
    pause_ends: Option<Instant>,
    learner: Option<Learner>,
}

impl Answer {
    /// Who answers.
    pub(crate) fn instance(&self) -> &InUse {
        &self.instance
    }

    /// The connection of an answer that switches protocols, with what came after the answer, and who is at its other end.
    pub(crate) fn into_parts(self) -> (Option<(TcpStream, BytesMut)>, InUse) {
        let connection = self.connection.map(|connection| (connection.stream, connection.buffer));
        (connection, self.instance)
    }

    /// Gives the connection back if it can be used again.
    fn end(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.keeps_connection
        {
            self.instance.target.connections.give_back(connection, &self.limits);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let Self { decoder, connection, longest_pause, pause_ends, .. } = &mut *self;
        let Some(reading) = connection else { return Poll::Ready(None) };
        let pause = || *pause_ends.get_or_insert_with(|| Instant::now() + *longest_pause);
        let polled = ready!(reading.poll_body(decoder, context, pause));
        *pause_ends = None;
        if let Some(Ok(data)) = &polled
            && let Some(learner) = self.learner.take()
        {
            learner(data);
        }
        if self.decoder.is_done() {
            self.end();
        } else if !matches!(polled, Some(Ok(_))) {
            self.connection = None;
        }
        Poll::Ready(polled.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder {
            Decoder::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}
