//! When to read and when to commit.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The pace of one consumer.
pub(super) struct Pace {
    next_read: Instant,
    /// When what was handled is to be committed, if something is not.
    commit_at: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next_read: Instant::now(), commit_at: None }
    }
}

impl Pace {
    /// How far apart reads of few records are. Readers of what is stored see a record so much later at most.
    pub(super) const READ_EVERY: Duration = Duration::from_millis(20);
    /// How far apart commits are. So much is handled again after a crash.
    pub(super) const COMMIT_EVERY: Duration = Duration::from_millis(200);
    const COMMIT_AGAIN: Duration = Duration::from_secs(1);

    /// When the next read may begin.
    pub(super) fn next_read(&self) -> Instant {
        self.next_read
    }

    /// So many records were read of the most that a read returns. What comes after an idle time is never delayed.
    pub(super) fn read(&mut self, records: usize, most: usize) {
        let now = Instant::now();
        self.next_read = if records < most / 4 { now + Self::READ_EVERY } else { now };
    }

    /// What was read is handled.
    pub(super) fn handled(&mut self) {
        self.commit_at.get_or_insert_with(|| Instant::now() + Self::COMMIT_EVERY);
    }

    /// Whether something was handled and not committed.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.commit_at.is_some()
    }

    pub(super) fn commit_is_due(&self) -> bool {
        self.commit_at.is_some_and(|at| at <= Instant::now())
    }

    /// Never returns when there is nothing to be committed. Safe to cancel.
    pub(super) async fn commit_becomes_due(&self) {
        match self.commit_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn committed(&mut self) {
        self.commit_at = None;
    }

    /// The commit has failed.
    pub(super) fn not_committed(&mut self) {
        self.commit_at = Some(Instant::now() + Self::COMMIT_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_records_are_followed_by_a_pause_and_many_are_not() {
        let mut pace = Pace::default();
        pace.read(249, 1000);
        assert!(pace.next_read() > Instant::now());
        pace.read(250, 1000);
        assert!(pace.next_read() <= Instant::now());
    }

    #[tokio::test]
    async fn commits_have_their_distance_and_failures_a_longer_one() {
        let mut pace = Pace::default();
        assert!(!pace.has_uncommitted() && !pace.commit_is_due());
        let began = Instant::now();
        pace.handled();
        let first = pace.commit_at;
        pace.handled();
        assert_eq!(pace.commit_at, first, "the first one counts");
        pace.commit_becomes_due().await;
        assert!(pace.commit_is_due());
        assert!(began.elapsed() >= Pace::COMMIT_EVERY);
        pace.not_committed();
        pace.handled();
        assert!(pace.commit_at.is_some_and(|at| at >= began + Pace::COMMIT_EVERY + Pace::COMMIT_AGAIN));
        pace.committed();
        assert!(!pace.has_uncommitted());
    }
}
