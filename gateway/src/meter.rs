//! Counts answers per route, status and outcome, without building labels for every request.

use std::{sync::OnceLock, time::Duration};

use axum::http::StatusCode;
use metrics::{Counter, Histogram};

/// What is counted for one route.
pub(crate) struct Meter {
    route: String,
    statuses: Box<[OnceLock<Counter>]>,
    seconds: [OnceLock<Histogram>; 3],
}

/// Who gave the answer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The service, whatever it said.
    Answered,
    /// The gateway: the client may not, or did something wrong.
    Refused,
    /// The gateway: the service or the PDP gave no answer.
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Meter {
    const FIRST: u16 = 100;
    const COUNT: usize = 900;

    pub(crate) fn new(route: &str) -> Self {
        let statuses = std::iter::repeat_with(OnceLock::new).take(Self::COUNT).collect();
        Self { route: route.to_owned(), statuses, seconds: Default::default() }
    }

    /// Counts an answer.
    pub(crate) fn count(&self, status: StatusCode, outcome: Outcome, took: Duration) {
        let counter = || {
            let labels = [("route", self.route.clone()), ("status", status.as_str().to_owned())];
            metrics::counter!("gateway_requests_total", &labels)
        };
        if let Some(known) = self.statuses.get(usize::from(status.as_u16() - Self::FIRST)) {
            known.get_or_init(counter).increment(1);
        }
        let histogram = || {
            let labels = [("route", self.route.clone()), ("outcome", outcome.name().to_owned())];
            metrics::histogram!("gateway_request_seconds", &labels)
        };
        if let Some(known) = self.seconds.get(outcome as usize) {
            known.get_or_init(histogram).record(took.as_secs_f64());
        }
    }
}
