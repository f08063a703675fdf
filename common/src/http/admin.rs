//! The admin listener of a process: is it alive, is it ready, what does it count.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::shutdown::Shutdown;

/// What a process needs to be ready, and whether it has it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

/// One thing that has to be ready.
#[derive(Debug, Clone)]
pub struct ReadyFlag {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    const NOT_YET: &'static str = "starting";

    /// Adds something that has to be ready; it is not, until it says so.
    pub fn register(&self, name: impl Into<String>) -> ReadyFlag {
        let flag = ReadyFlag { readiness: self.clone(), name: name.into() };
        flag.set(Some(Self::NOT_YET.to_owned()));
        flag
    }

    /// What is not ready, with the reason.
    pub fn missing(&self) -> BTreeMap<String, String> {
        let flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flags.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    /// Whether everything is ready.
    pub fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().all(Option::is_none)
    }

    /// Asks an engine every two seconds whether it answers.
    pub fn monitor<F, Fut, E>(&self, name: impl Into<String>, shutdown: &Shutdown, check: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send,
        E: std::fmt::Display + Send,
    {
        let flag = self.register(name);
        let stop = shutdown.clone();
        shutdown.spawn("readiness", async move {
            let mut every = tokio::time::interval(Duration::from_secs(2));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stop.unless_requested(every.tick()).await.is_some() {
                match tokio::time::timeout(Duration::from_secs(2), check()).await {
                    Ok(Ok(())) => flag.ready(),
                    Ok(Err(error)) => flag.not_ready(error.to_string()),
                    Err(_) => flag.not_ready("no answer within 2 seconds"),
                }
            }
        });
    }
}

impl ReadyFlag {
    /// It is ready.
    pub fn ready(&self) {
        if self.set(None).is_some_and(|reason| reason != Readiness::NOT_YET) {
            info!(name = self.name, "ready again");
        }
    }

    /// It is not, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.set(Some(reason.clone())).is_none() {
            warn!(name = self.name, reason, "not ready");
        }
    }

    /// Sets why it is not ready, and returns why it was not before.
    fn set(&self, reason: Option<String>) -> Option<String> {
        let mut flags = self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner);
        flags.insert(self.name.clone(), reason).flatten()
    }
}

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    metrics: PrometheusHandle,
}

/// The routes of the admin listener. dojot's health paths work too (dojot-connectors.md 0.2).
pub fn router(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/live", get(live))
        .route("/health/ready", get(ready))
        .route("/ready", get(ready))
        .route("/health", get(ready))
        .route("/metrics", get(|State(admin): State<Admin>| async move { admin.metrics.render() }))
        .with_state(Admin { readiness, metrics })
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, Json(json!({ "status": "ready" })))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not ready", "missing": missing })))
    }
}
