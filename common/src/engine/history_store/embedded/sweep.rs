//! Removes what is older than the expiry, a little at a time.

use std::time::Duration;

use sqlx::Row;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::{HistoryError, Store};
use crate::clock::Clock;

const EVERY: Duration = Duration::from_mins(1);
/// Series that one step looks at.
const SERIES_AT_ONCE: i64 = 500;

/// Sweeps for as long as the store lives, which owns the task.
pub(super) async fn run(store: Store, expiry_s: i64, clock: Clock) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let oldest_ms = clock.now_ms().saturating_sub(expiry_s.saturating_mul(1000));
        match store.sweep(oldest_ms).await {
            Ok(removed) => debug!(removed, "old samples were removed"),
            Err(error) => warn!(%error, "old samples cannot be removed for the moment"),
        }
    }
}

impl Store {
    /// Removes the samples before `oldest_ms` and the series that have none left.
    pub(super) async fn sweep(&self, oldest_ms: i64) -> Result<u64, HistoryError> {
        let (mut behind, mut removed) = (0, 0);
        while let Some(last) = self.last_series_of_step(behind).await? {
            loop {
                let step = self.sweep_step(behind, last, oldest_ms).await?;
                removed += step;
                if step < Self::REMOVE_AT_ONCE as u64 {
                    break;
                }
            }
            self.remove_empty_series(behind, last).await?;
            behind = last;
        }
        Ok(removed)
    }

    async fn last_series_of_step(&self, behind: i64) -> Result<Option<i64>, HistoryError> {
        let last =
            sqlx::query("SELECT MAX(id) FROM (SELECT id FROM series WHERE id > $1 ORDER BY id LIMIT $2)");
        let last = last.bind(behind).bind(SERIES_AT_ONCE).fetch_one(&self.readers).await?;
        Ok(last.try_get(0)?)
    }

    async fn sweep_step(&self, behind: i64, last: i64, oldest_ms: i64) -> Result<u64, HistoryError> {
        let _may_write = self.known.lock().await;
        // Series first: each is one step into the tree, and no index by age is needed.
        let removed = sqlx::query(
            "DELETE FROM samples WHERE (series, ts, id) IN (\
             SELECT samples.series, samples.ts, samples.id FROM series \
             CROSS JOIN samples ON samples.series = series.id AND samples.ts < $3 \
             WHERE series.id > $1 AND series.id <= $2 LIMIT $4)",
        );
        let removed = removed.bind(behind).bind(last).bind(oldest_ms).bind(Self::REMOVE_AT_ONCE);
        Ok(removed.execute(&self.writer).await?.rows_affected())
    }

    async fn remove_empty_series(&self, behind: i64, last: i64) -> Result<(), HistoryError> {
        let mut known = self.known.lock().await;
        let removed = sqlx::query(
            "DELETE FROM series WHERE id > $1 AND id <= $2 \
             AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.series = series.id)",
        );
        let removed = removed.bind(behind).bind(last).execute(&self.writer).await?.rows_affected();
        if removed > 0 {
            known.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::history_store::{EmbeddedHistory, Sample, Window},
        wire::{DeviceId, Tenant},
    };

    #[tokio::test]
    async fn old_samples_and_empty_series_go() {
        let directory = tempfile::TempDir::new().unwrap();
        let clock = Clock::fixed(0);
        let history = EmbeddedHistory::open(directory.path(), 604_800, clock).await.unwrap();
        let tenant = Tenant::parse("t").unwrap();
        let sample = |device: usize, ts_ms: i64| Sample {
            tenant: tenant.clone(),
            generation: 0,
            device: DeviceId::parse(&format!("d{device}")).unwrap(),
            attr: "a".to_owned(),
            value: "1".to_owned(),
            ts_ms,
            metadata: "{}".to_owned(),
            id: [0; 16],
        };
        // More series than one step looks at, more samples than one step removes.
        let mut samples: Vec<Sample> = (0..1200).map(|device| sample(device, 100)).collect();
        samples.extend((0..6000).map(|ts_ms| sample(0, ts_ms)));
        samples.push(sample(1, 5000));
        history.insert(&samples).await.unwrap();
        assert_eq!(history.store.sweep(5000).await.unwrap(), 1199 + 5000);
        let device = |name: &str| DeviceId::parse(name).unwrap();
        let count = async |name| {
            history.query(&tenant, 0, &device(name), "a", Window::default(), None).await.unwrap().len()
        };
        assert_eq!((count("d0").await, count("d1").await, count("d2").await), (1000, 1, 0));
        assert!(!history.has_device(&tenant, 0, &device("d2")).await.unwrap());
        // A series that was removed is made anew.
        history.insert(&[sample(2, 7000)]).await.unwrap();
        assert_eq!(count("d2").await, 1);
        assert_eq!(history.store.sweep(i64::MIN).await.unwrap(), 0);
    }
}
