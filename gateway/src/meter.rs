//! Counts answers per route and status, without building labels for every request.

use std::{sync::OnceLock, time::Duration};

use axum::http::StatusCode;
use metrics::{Counter, Histogram};

/// What is counted for one route.
pub(crate) struct Meter {
    route: String,
    statuses: Box<[OnceLock<Counter>]>,
    seconds: OnceLock<Histogram>,
}

impl Meter {
    const FIRST: u16 = 100;
    const COUNT: usize = 900;

    pub(crate) fn new(route: &str) -> Self {
        let statuses = std::iter::repeat_with(OnceLock::new).take(Self::COUNT).collect();
        Self { route: route.to_owned(), statuses, seconds: OnceLock::new() }
    }

    /// Counts an answer.
    pub(crate) fn count(&self, status: StatusCode, took: Duration) {
        let counter = || {
            let labels = [("route", self.route.clone()), ("status", status.as_str().to_owned())];
            metrics::counter!("gateway_requests_total", &labels)
        };
        if let Some(known) = self.statuses.get(usize::from(status.as_u16() - Self::FIRST)) {
            known.get_or_init(counter).increment(1);
        }
        let histogram = || metrics::histogram!("gateway_request_seconds", "route" => self.route.clone());
        self.seconds.get_or_init(histogram).record(took.as_secs_f64());
    }
}
