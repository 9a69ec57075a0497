//! What the system knows of this process and its network.

use std::alloc::System;
use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// It counts what every test allocates: engine, clients and the test itself together.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
#[must_use]
pub fn allocated_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Allocations so far, those that grew among them.
#[must_use]
pub fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Time that the calling thread has been on a CPU.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a clock that counts from 0")
}

/// Raises the limit on descriptors as far as the process may, and returns what it is then.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused the old one holds, and the test makes do with that.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Open descriptors of this process.
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn descriptors() -> usize {
    // The directory itself is open while it is counted.
    fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// Bytes of memory that are resident (`proc_pid_statm(5)`).
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has seven numbers");
    pages * rustix::param::page_size()
}

/// Sockets of the network namespace, with those that belong to no process any more
/// (`/proc/net/sockstat`).
///
/// # Panics
/// If `/proc` is not mounted.
#[must_use]
pub fn sockets() -> usize {
    let sockstat = fs::read_to_string("/proc/net/sockstat").expect("/proc");
    let used = sockstat.lines().find_map(|line| line.strip_prefix("sockets: used "));
    used.and_then(|used| used.trim().parse().ok()).expect("sockstat says how many are used")
}
