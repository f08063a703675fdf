//! How much memory processes of ours need.

use std::fs;

/// Watches one process.
pub struct Memory(u32);

impl Memory {
    /// Of a process, from now on.
    pub fn of(pid: u32) -> Self {
        let memory = Self(pid);
        memory.forget();
        memory
    }

    /// Makes the present size the largest so far.
    pub fn forget(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").expect("a process of ours");
    }

    /// What is resident now, in KiB.
    pub fn now_kib(&self) -> u64 {
        resident_kib(self.0)
    }

    /// The most that was resident since the beginning, in KiB.
    pub fn most_kib(&self) -> u64 {
        size_kib(self.0, "VmHWM:")
    }
}

/// What is resident of a process now, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    size_kib(pid, "VmRSS:")
}

fn size_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}
