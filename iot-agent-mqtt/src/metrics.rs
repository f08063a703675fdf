//! What the agent counts. Handles are looked up once: on the path of a message a counter costs one addition.

use metrics::{Counter, Gauge};

/// Counters and gauges of the process.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) publishes: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) dropped: Counter,
    pub(crate) duplicates: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            connections: metrics::gauge!("mqtt_connections"),
            publishes: metrics::counter!("mqtt_publishes_total"),
            acknowledged: metrics::counter!("mqtt_acknowledged_total"),
            deliveries: metrics::counter!("mqtt_deliveries_total"),
            dropped: metrics::counter!("mqtt_deliveries_dropped_total"),
            duplicates: metrics::counter!("mqtt_duplicates_total"),
        }
    }
}

/// Counts something that was refused; rare, so it is looked up by its reason.
pub(crate) fn refused(reason: &'static str) {
    metrics::counter!("mqtt_refused_total", "reason" => reason).increment(1);
}
