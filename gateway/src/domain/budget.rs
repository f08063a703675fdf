//! How often somebody may fail: so often a minute and so often an hour.

/// Most failures; 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) per_minute: u32,
    pub(crate) per_hour: u32,
}

/// What somebody has used of their limits, and what is under way and may become a failure.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    minute: Window,
    hour: Window,
    pending: u32,
}

/// Failures since the first one in it; it ends by itself.
#[derive(Debug, Default)]
struct Window {
    failures: u32,
    ends_ms: i64,
}

/// What the client is told of a budget (dojot-api.md 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limits: Limits,
    /// Failures that are left in this minute.
    pub(crate) minute_left: u32,
    /// Failures that are left in this hour.
    pub(crate) hour_left: u32,
    /// Until there are more, in seconds.
    pub(crate) reset_s: u32,
}

/// Whether something more may be tried; the later, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    Free,
    /// Not before something that is under way has succeeded.
    Later,
    None,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

impl Budget {
    /// Whether there is room for one more.
    pub(crate) fn room(&self, limits: Limits, now_ms: i64) -> Room {
        let used = [
            (self.minute.failures(now_ms), limits.per_minute),
            (self.hour.failures(now_ms), limits.per_hour),
        ];
        let is_full =
            |extra: u32| used.iter().any(|(used, most)| *most > 0 && used.saturating_add(extra) >= *most);
        match (is_full(0), is_full(self.pending)) {
            (true, _) => Room::None,
            (false, true) => Room::Later,
            (false, false) => Room::Free,
        }
    }

    /// Notes that something begins.
    pub(crate) fn begin(&mut self) {
        self.pending += 1;
    }

    /// Notes that something has ended.
    pub(crate) fn end(&mut self, has_failed: bool, now_ms: i64) {
        self.pending = self.pending.saturating_sub(1);
        if has_failed {
            self.minute.add(now_ms, MINUTE_MS);
            self.hour.add(now_ms, HOUR_MS);
        }
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_clean(&self, now_ms: i64) -> bool {
        self.pending == 0 && self.hour.failures(now_ms) == 0 && self.minute.failures(now_ms) == 0
    }

    /// Whether something is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.pending > 0
    }

    /// When the last window ends, in milliseconds.
    pub(crate) fn ends_ms(&self) -> i64 {
        self.minute.ends_ms.max(self.hour.ends_ms)
    }

    /// What the client is told.
    pub(crate) fn quota(&self, limits: Limits, now_ms: i64) -> Quota {
        let left = |window: &Window, most: u32| most.saturating_sub(window.failures(now_ms));
        let (minute_left, hour_left) =
            (left(&self.minute, limits.per_minute), left(&self.hour, limits.per_hour));
        // The window that runs out first says when there is more; without a failure a full minute would.
        let is_hour = limits.per_hour > 0 && (limits.per_minute == 0 || hour_left < minute_left);
        let (window, full_ms) = if is_hour { (&self.hour, HOUR_MS) } else { (&self.minute, MINUTE_MS) };
        let wait_ms = if window.failures(now_ms) > 0 { window.ends_ms - now_ms } else { full_ms };
        let reset_s = u32::try_from((wait_ms + 999) / 1000).unwrap_or(0).max(1);
        Quota { limits, minute_left, hour_left, reset_s }
    }
}

impl Window {
    fn failures(&self, now_ms: i64) -> u32 {
        if now_ms < self.ends_ms { self.failures } else { 0 }
    }

    fn add(&mut self, now_ms: i64, length_ms: i64) {
        if now_ms >= self.ends_ms {
            *self = Self { failures: 0, ends_ms: now_ms + length_ms };
        }
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_minute: 2, per_hour: 3 };

    fn fail(budget: &mut Budget, now_ms: i64) {
        budget.begin();
        budget.end(true, now_ms);
    }

    #[test]
    fn failures_use_the_budget_up_and_time_fills_it() {
        let mut budget = Budget::default();
        assert!(budget.is_clean(0));
        fail(&mut budget, 0);
        assert_eq!(budget.room(LIMITS, 1), Room::Free);
        fail(&mut budget, 1);
        assert_eq!(budget.room(LIMITS, 1), Room::None);
        assert_eq!(budget.room(LIMITS, MINUTE_MS), Room::Free);
        fail(&mut budget, MINUTE_MS);
        assert_eq!(budget.room(LIMITS, 3 * MINUTE_MS), Room::None, "the hour is used up");
        let quota = budget.quota(LIMITS, 3 * MINUTE_MS);
        assert_eq!((quota.minute_left, quota.hour_left, quota.reset_s), (2, 0, 57 * 60));
        assert_eq!(budget.room(LIMITS, HOUR_MS), Room::Free);
        assert!(budget.is_clean(HOUR_MS));
    }

    #[test]
    fn successes_cost_nothing() {
        let mut budget = Budget::default();
        for _ in 0..100 {
            assert_eq!(budget.room(LIMITS, 0), Room::Free);
            budget.begin();
            budget.end(false, 0);
        }
        assert!(budget.is_clean(0));
    }

    #[test]
    fn what_is_under_way_may_fail() {
        let mut budget = Budget::default();
        budget.begin();
        budget.begin();
        assert_eq!(budget.room(LIMITS, 0), Room::Later);
        assert!(budget.is_busy() && !budget.is_clean(0));
        budget.end(false, 0);
        assert_eq!(budget.room(LIMITS, 0), Room::Free);
        budget.begin();
        budget.end(true, 0);
        assert_eq!(budget.room(LIMITS, 0), Room::Later);
        budget.end(true, 0);
        assert_eq!(budget.room(LIMITS, 0), Room::None);
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = Limits { per_minute: 0, per_hour: 0 };
        let mut budget = Budget::default();
        for _ in 0..100 {
            fail(&mut budget, 0);
        }
        assert_eq!(budget.room(limits, 0), Room::Free);
    }

    #[test]
    fn clients_learn_what_is_left() {
        let mut budget = Budget::default();
        let quota = budget.quota(LIMITS, 0);
        assert_eq!((quota.minute_left, quota.hour_left, quota.reset_s), (2, 3, 60));
        fail(&mut budget, 500);
        let quota = budget.quota(LIMITS, 1_000);
        assert_eq!((quota.minute_left, quota.hour_left, quota.reset_s), (1, 2, 60));
        assert_eq!(budget.quota(LIMITS, 30_500).reset_s, 30);
    }
}
