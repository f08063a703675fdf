//! Several instances of a service: who gets the next request, and who is left alone for a while.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
};

/// So many failures in a row, and an instance is left alone.
const FAILURES: u32 = 3;
/// For how long at first, in milliseconds; twice as long after each further failure.
const FIRST_PAUSE_MS: i64 = 1_000;
/// And at most.
const LONGEST_PAUSE_MS: i64 = 30_000;

/// Instances of one service. `T` is what is needed to reach one.
#[derive(Debug)]
pub struct Balancer<T> {
    instances: Box<[Arc<Instance<T>>]>,
    /// Where the search begins, so that instances with equal work take turns.
    next: AtomicUsize,
}

/// One instance, and what is known of its health.
#[derive(Debug)]
pub struct Instance<T> {
    /// How it is reached.
    pub target: T,
    index: usize,
    in_flight: AtomicUsize,
    /// In a row.
    failures: AtomicU32,
    /// Milliseconds since the epoch.
    paused_until_ms: AtomicI64,
    is_down: AtomicBool,
}

/// An instance that is working on a request until this is dropped.
#[derive(Debug)]
pub struct Lease<T>(Arc<Instance<T>>);

impl<T> Balancer<T> {
    /// For instances of which nothing is known yet.
    pub fn new(targets: impl IntoIterator<Item = T>) -> Self {
        let instance = |(index, target)| {
            Arc::new(Instance {
                target,
                index,
                in_flight: AtomicUsize::new(0),
                failures: AtomicU32::new(0),
                paused_until_ms: AtomicI64::new(0),
                is_down: AtomicBool::new(false),
            })
        };
        let instances = targets.into_iter().enumerate().map(instance).collect();
        Self { instances, next: AtomicUsize::new(0) }
    }

    /// All instances.
    pub fn instances(&self) -> &[Arc<Instance<T>>] {
        &self.instances
    }

    /// The instance for the next request, without those that were tried: of the healthy ones the one with the fewest
    /// requests in flight. When none is healthy, any: it may be back.
    pub fn pick(&self, now_ms: i64, tried: &[usize]) -> Option<Lease<T>> {
        let count = self.instances.len();
        let start = if count < 2 { 0 } else { self.next.fetch_add(1, Ordering::Relaxed) % count };
        let (before, after) = self.instances.split_at_checked(start)?;
        let in_turn = after.iter().chain(before).filter(|instance| !tried.contains(&instance.index));
        let work = |instance: &&Arc<Instance<T>>| {
            (!instance.is_healthy(now_ms), instance.in_flight.load(Ordering::Relaxed))
        };
        in_turn.min_by_key(work).map(|instance| Lease::new(Arc::clone(instance)))
    }

    /// A chosen instance, if it is healthy.
    pub fn take(&self, index: usize, now_ms: i64) -> Option<Lease<T>> {
        let instance = self.instances.get(index).filter(|instance| instance.is_healthy(now_ms))?;
        Some(Lease::new(Arc::clone(instance)))
    }
}

impl<T> Instance<T> {
    /// Its place among the others.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it gets requests while others could have them.
    pub fn is_healthy(&self, now_ms: i64) -> bool {
        !self.is_down.load(Ordering::Relaxed) && self.paused_until_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// Notes that it answered, whatever it said.
    pub fn succeeded(&self) {
        // Most often there is nothing to change, and a write would cost the other cores something.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.paused_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that it did not answer.
    pub fn failed(&self, now_ms: i64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if let Some(further) = failures.checked_sub(FAILURES) {
            let pause = (FIRST_PAUSE_MS << further.min(10)).min(LONGEST_PAUSE_MS);
            self.paused_until_ms.store(now_ms + pause, Ordering::Relaxed);
        }
    }

    /// Notes whether it can be reached at all; returns whether that is news.
    pub fn set_down(&self, is_down: bool) -> bool {
        self.is_down.swap(is_down, Ordering::Relaxed) != is_down
    }
}

impl<T> Lease<T> {
    fn new(instance: Arc<Instance<T>>) -> Self {
        instance.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(instance)
    }
}

impl<T> Deref for Lease<T> {
    type Target = Instance<T>;

    fn deref(&self) -> &Instance<T> {
        &self.0
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Balancer<char> {
        Balancer::new(['a', 'b', 'c'])
    }

    #[test]
    fn instances_take_turns_and_the_least_busy_comes_first() {
        let balancer = three();
        let turns: String = (0..6).map(|_| balancer.pick(0, &[]).unwrap().target).collect();
        assert_eq!(turns, "abcabc");
        let busy: Vec<_> = (0..2).map(|_| balancer.pick(0, &[]).unwrap()).collect();
        for _ in 0..6 {
            assert_eq!(balancer.pick(0, &[]).unwrap().target, 'c');
        }
        drop(busy);
        let turns: String = (0..3).map(|_| balancer.pick(0, &[]).unwrap().target).collect();
        assert!(turns.contains('a') && turns.contains('b') && turns.contains('c'), "{turns}");
    }

    #[test]
    fn who_fails_in_a_row_is_left_alone_for_a_while() {
        let balancer = three();
        let sick = Arc::clone(&balancer.instances()[0]);
        for _ in 0..FAILURES - 1 {
            sick.failed(0);
        }
        assert!(sick.is_healthy(0));
        sick.succeeded();
        for _ in 0..FAILURES - 1 {
            sick.failed(0);
        }
        assert!(sick.is_healthy(0), "not in a row");
        sick.failed(0);
        assert!(!sick.is_healthy(FIRST_PAUSE_MS - 1));
        assert!((0..6).all(|_| balancer.pick(0, &[]).unwrap().target != 'a'));
        assert!(sick.is_healthy(FIRST_PAUSE_MS), "it gets another chance");
        sick.failed(FIRST_PAUSE_MS);
        assert!(!sick.is_healthy(FIRST_PAUSE_MS + 2 * FIRST_PAUSE_MS - 1), "and is left alone for longer");
        for _ in 0..100 {
            sick.failed(0);
        }
        assert!(sick.is_healthy(LONGEST_PAUSE_MS));
        sick.succeeded();
        assert!(sick.is_healthy(0));
    }

    #[test]
    fn none_is_tried_twice_and_sick_ones_are_better_than_none() {
        let balancer = three();
        balancer.instances()[2].set_down(true);
        assert_eq!(balancer.pick(0, &[0, 1]).unwrap().target, 'c');
        assert!(balancer.pick(0, &[0, 1, 2]).is_none());
        assert!(balancer.take(2, 0).is_none() && balancer.take(9, 0).is_none());
        assert_eq!(balancer.take(1, 0).unwrap().target, 'b');
        assert!(Balancer::<char>::new([]).pick(0, &[]).is_none());
    }
}
