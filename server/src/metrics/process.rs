//! The process as the kernel sees it, under the names that Prometheus's own clients use (`proc_pid_stat(5)`).

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::text::Text;

/// Writes what `/proc` says; what it does not say is left out.
pub(super) fn write(text: &mut Text) {
    if let Ok(line) = fs::read_to_string("/proc/self/stat")
        && let Some(stat) = Stat::parse(&line)
    {
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        text.counter("process_cpu_seconds_total", "Processor time in user and kernel mode.", seconds(stat.cpu_ticks));
        text.gauge("process_threads", "Threads.", stat.threads);
        text.gauge("process_virtual_memory_bytes", "Bytes of address space.", stat.virtual_bytes);
        let resident = stat.resident_pages * page_size() as u64;
        text.gauge("process_resident_memory_bytes", "Bytes of memory that are resident.", resident);
        if let Some(boot) = boot_time_seconds() {
            let start = boot + seconds(stat.start_ticks);
            text.gauge("process_start_time_seconds", "When the process started, in seconds since the epoch.", start);
        }
    }
    // Since Linux 6.2 the directory's size is its number of entries. To count a million of them would take too long.
    if let Ok(open) = fs::metadata("/proc/self/fd").map(|directory| directory.len())
        && open > 0
    {
        text.gauge("process_open_fds", "Open descriptors; direct ones of a ring are not among them.", open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    text.gauge("process_max_fds", "Descriptors that the process may have open.", limit.unwrap_or(u64::MAX));
}

/// What the process takes of the machine.
pub(crate) struct Usage {
    /// Processor time in user and kernel mode, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Memory that is resident.
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// What `/proc` says, if it does.
    pub(crate) fn read() -> Option<Self> {
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self {
            cpu_ms: stat.cpu_ticks * 1000 / clock_ticks_per_second(),
            resident_bytes: stat.resident_pages * page_size() as u64,
        })
    }
}

/// Fields of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The program's name is in brackets and may contain anything. Behind it comes field 3.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds from the epoch to the boot.
fn boot_time_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 5 0 9000 8192 77 18446744073709551615 1 1";
        let stat = Stat { cpu_ticks: 42, threads: 5, start_ticks: 9000, virtual_bytes: 8192, resident_pages: 77 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("7 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn this_process_has_all_of_it() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.finish();
        for name in ["cpu_seconds_total", "threads", "virtual_memory_bytes", "resident_memory_bytes", "max_fds"] {
            let line = text.lines().find(|line| line.starts_with(&format!("process_{name} "))).expect(name);
            let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!(value > 0.0 || name == "cpu_seconds_total", "{line}");
        }
    }
}
