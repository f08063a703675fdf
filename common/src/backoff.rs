//! Waiting longer and longer between attempts.

use std::time::Duration;

use rand::Rng;

/// Pauses that double from 50 ms to a limit, each shortened at random so that instances do not march in step.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(5))
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);

    /// Pauses of at most `limit`.
    pub fn up_to(limit: Duration) -> Self {
        Self { next: Self::FIRST, limit }
    }

    /// Starts again with the shortest pause, after a success.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The next pause, for those who wait for something else meanwhile.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(self.limit);
        pause
    }

    /// Waits for the next pause.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits for time to pass")]
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }
}
