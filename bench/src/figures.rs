//! Latencies and CPU time.

use std::{fs, time::Duration};

use system_tests::memory::resident_kib;

/// Measured durations.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Median and tail, in milliseconds.
    pub(crate) fn summary(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
        };
        format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", at(0.5), at(0.99), at(0.999))
    }
}

/// Processes and all that they have started.
fn family(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        // Only the first thread of nginx starts others.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}

/// User and system time of processes and all that they have started.
pub(crate) fn cpu_time_of_all(pids: &[u32]) -> Duration {
    family(pids).into_iter().map(cpu_time).sum()
}

/// Resident memory of the same, in KiB; what several share counts several times.
pub(crate) fn resident_kib_of_all(pids: &[u32]) -> u64 {
    family(pids).into_iter().map(resident_kib).sum()
}

/// User and system time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    /// Linux counts in hundredths of a second on every architecture that we run on.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is the name in parentheses and may contain anything; user and system time are 14 and 15.
    let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u32 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}
