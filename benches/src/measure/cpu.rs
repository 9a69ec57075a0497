//! CPU time of the server's process, of the client's thread, and how busy a core was.
//!
//! A process is read from `/proc/PID/task/*/schedstat` (nanoseconds on a CPU, one file per thread),
//! which `/proc/PID/stat` rounds to clock ticks of 10 ms. Kernels without `CONFIG_SCHED_INFO` lack
//! the first; then the second is used. Both include the kernel's work inside system calls and the
//! receive softirq that ran on top of the process (see proc(5)).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{MeasureError, read};

/// Nanoseconds of one clock tick in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux ABI that io_uring runs on.
const TICK_NS: u64 = 10_000_000;

/// Where CPU time was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CpuSource {
    /// Sum of `/proc/PID/task/*/schedstat`, in nanoseconds.
    Schedstat,
    /// `utime + stime` of `/proc/PID/stat`, in ticks of 10 ms.
    Stat,
}

impl CpuSource {
    /// The file that a report names.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Schedstat => "/proc/PID/task/*/schedstat",
            Self::Stat => "/proc/PID/stat",
        }
    }
}

/// CPU time of a process since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessCpu {
    /// From the finest source there is.
    pub(crate) nanoseconds: u64,
    /// Which that is.
    pub(crate) source: CpuSource,
    /// `utime + stime`, which also counts threads that have ended.
    pub(crate) stat_nanoseconds: u64,
    /// Threads alive.
    pub(crate) threads: usize,
}

impl ProcessCpu {
    /// Reads the time of process `pid`.
    ///
    /// # Errors
    /// The process is gone or closed to this user.
    pub(crate) fn read(pid: u32) -> Result<Self, MeasureError> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let stat_path = directory.join("stat");
        let stat_nanoseconds = parse_stat(&read(&stat_path)?)
            .ok_or(MeasureError::Format { path: stat_path, field: "utime and stime" })?
            * TICK_NS;
        let (scheduled, threads) = sum_threads(&directory.join("task"))?;
        let (nanoseconds, source) = match scheduled {
            Some(nanoseconds) => (nanoseconds, CpuSource::Schedstat),
            None => (stat_nanoseconds, CpuSource::Stat),
        };
        Ok(Self { nanoseconds, source, stat_nanoseconds, threads })
    }
}

/// Sums the threads' `schedstat`; `None` for the sum if this kernel does not keep it.
fn sum_threads(directory: &Path) -> Result<(Option<u64>, usize), MeasureError> {
    let entries =
        fs::read_dir(directory).map_err(|source| MeasureError::Unreadable { path: directory.into(), source })?;
    let mut sum = Some(0);
    let mut threads = 0;
    for entry in entries.flatten() {
        threads += 1;
        // A thread may end between the listing and this read; its time then shows in `stat` alone.
        let own = fs::read_to_string(entry.path().join("schedstat")).ok().and_then(|text| parse_schedstat(&text));
        sum = match (sum, own) {
            (Some(sum), Some(own)) => Some(sum + own),
            (_, None) if entry.path().exists() => None,
            (sum, _) => sum,
        };
    }
    Ok((sum.filter(|&nanoseconds| nanoseconds > 0), threads))
}

/// The first field: nanoseconds spent on a CPU.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime + stime` in ticks. The command's name is in parentheses and may itself hold any character.
fn parse_stat(text: &str) -> Option<u64> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    // proc(5) numbers the state 3, utime 14 and stime 15.
    let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// How one core has spent its ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CoreTicks {
    /// Running anything: processes, kernel threads, interrupts.
    pub(crate) busy: u64,
    /// Idle, or idle and waiting for a disk.
    pub(crate) idle: u64,
    /// Ready to run while the hypervisor ran something else: noise that no benchmark can correct.
    pub(crate) steal: u64,
}

impl CoreTicks {
    /// Reads core `core` from `/proc/stat`.
    ///
    /// # Errors
    /// There is no such core.
    pub(crate) fn read(core: usize) -> Result<Self, MeasureError> {
        Self::parse(&read("/proc/stat")?, core)
            .ok_or(MeasureError::Format { path: "/proc/stat".into(), field: "line of the core" })
    }

    fn parse(text: &str, core: usize) -> Option<Self> {
        let label = format!("cpu{core}");
        let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(&label))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        // proc(5): user nice system idle iowait irq softirq steal.
        let [user, nice, system, idle, wait, irq, softirq, steal] = *ticks.get(..8)? else { return None };
        Some(Self { busy: user + nice + system + irq + softirq, idle: idle + wait, steal })
    }

    /// Busy and stolen share of the time since `earlier`, in percent.
    pub(crate) fn percent_since(self, earlier: Self) -> (f64, f64) {
        let busy = (self.busy - earlier.busy) as f64;
        let steal = (self.steal - earlier.steal) as f64;
        let total = busy + steal + (self.idle - earlier.idle) as f64;
        if total == 0.0 { (0.0, 0.0) } else { (100.0 * busy / total, 100.0 * steal / total) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_any_command_name() {
        let text = "4711 (a) b (c)) R 1 4711 4711 0 -1 4194304 110 0 0 0 250 125 7 9 20 0 1 0 88 1 2 3";
        assert_eq!(parse_stat(text), Some(375));
        assert_eq!(parse_stat("4711 (short) R 1"), None);
        assert_eq!(parse_stat("no name at all"), None);
    }

    #[test]
    fn schedstat_is_time_on_cpu_first() {
        assert_eq!(parse_schedstat("53245 17 1\n"), Some(53_245));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_core_is_found_by_its_whole_label() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 40 5 6 7 8 0 0\ncpu11 100 0 0 0 0 0 0 0 0 0\nintr 1 2\n";
        assert_eq!(CoreTicks::parse(text, 1), Some(CoreTicks { busy: 19, idle: 45, steal: 8 }));
        assert_eq!(CoreTicks::parse(text, 11).map(|ticks| ticks.busy), Some(100));
        assert_eq!(CoreTicks::parse(text, 2), None);
    }

    #[test]
    fn shares_are_of_the_time_between_two_readings() {
        let earlier = CoreTicks { busy: 10, idle: 10, steal: 0 };
        let later = CoreTicks { busy: 85, idle: 30, steal: 5 };
        assert_eq!(later.percent_since(earlier), (75.0, 5.0));
        assert_eq!(later.percent_since(later), (0.0, 0.0));
    }

    #[test]
    fn this_process_has_used_time() {
        let mut sum = 0_u64;
        for value in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum ^ value);
        }
        let cpu = ProcessCpu::read(std::process::id()).expect("own process is readable");
        assert!(cpu.nanoseconds > 0 && cpu.threads >= 1, "{cpu:?} {sum}");
        assert!(thread_nanoseconds() > 0);
    }

    #[test]
    fn a_missing_process_is_named() {
        let error = ProcessCpu::read(u32::MAX).expect_err("no such process").to_string();
        assert!(error.contains("/proc/4294967295") && error.contains("still running"), "{error}");
    }
}
