//! The time, so that tests can set it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};

/// Tells the time: the system's, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    fixed_ms: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's time.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `now_ms` (milliseconds since the epoch) until it is moved.
    pub fn fixed(now_ms: i64) -> Self {
        Self { fixed_ms: Some(Arc::new(AtomicI64::new(now_ms))) }
    }

    /// Moves a fixed clock on. Does nothing to the system's.
    pub fn advance(&self, ms: i64) {
        if let Some(fixed) = &self.fixed_ms {
            fixed.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Milliseconds since the epoch.
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn now_ms(&self) -> i64 {
        match &self.fixed_ms {
            Some(fixed) => fixed.load(Ordering::SeqCst),
            // Cheaper than a date, of which nothing is needed here; before the epoch it stands still.
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        }
    }

    /// Whole seconds since the epoch.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// The time as a date.
    pub fn now(&self) -> DateTime<Utc> {
        date_of(self.now_ms())
    }
}

/// The date of a number of milliseconds since the epoch; out of range becomes the epoch.
pub fn date_of(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
