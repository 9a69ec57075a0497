//! Where a measurement was made: what a reader needs to judge it and to repeat it.

use std::collections::BTreeMap;
use std::fs;

use crore_engine::uring::descriptor_limit;
use serde::Serialize;

/// Settings that change the figures, as paths below `/proc/sys` and `/sys`.
const KNOBS: [&str; 18] = [
    "/proc/sys/fs/nr_open",
    "/proc/sys/kernel/io_uring_disabled",
    "/proc/sys/kernel/numa_balancing",
    "/proc/sys/net/core/busy_poll",
    "/proc/sys/net/core/default_qdisc",
    "/proc/sys/net/core/netdev_max_backlog",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/tcp_congestion_control",
    "/proc/sys/net/ipv4/tcp_max_syn_backlog",
    "/proc/sys/net/ipv4/tcp_mem",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

/// Machine, kernel, settings, program, time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    /// Local date and time, RFC 9557.
    pub(crate) time: String,
    /// Version of this program.
    pub(crate) crore_bench: &'static str,
    /// The command that was run.
    pub(crate) command: String,
    /// Kernel release and build.
    pub(crate) kernel: String,
    /// Kind of processor.
    pub(crate) processor: String,
    /// Processors online.
    pub(crate) processors: usize,
    /// Whether a hypervisor is below.
    pub(crate) virtual_machine: bool,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Soft `RLIMIT_NOFILE`.
    pub(crate) descriptor_limit: u64,
    /// Mitigations of processor faults that are on: they make system calls dearer.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// By path; those that this kernel lacks are left out.
    pub(crate) knobs: BTreeMap<String, String>,
}

impl Environment {
    /// Reads what there is; what can't be read is left empty.
    pub(crate) fn read() -> Self {
        let system = rustix::system::uname();
        let text = |bytes: &std::ffi::CStr| bytes.to_string_lossy().into_owned();
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            time: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
            crore_bench: env!("CARGO_PKG_VERSION"),
            command: command_line(std::env::args()),
            kernel: format!("{} {}", text(system.release()), text(system.version())),
            processor: field(&processor, "model name").unwrap_or(text(system.machine())),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: processor.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")),
            memory_bytes: field(&memory, "MemTotal").and_then(|value| kilobytes(&value)).unwrap_or(0),
            descriptor_limit: descriptor_limit(),
            mitigations: mitigations(),
            knobs: KNOBS.iter().filter_map(|path| Some(((*path).to_owned(), value(path)?))).collect(),
        }
    }

    /// Date for the name of a report, such as `2025-11-21`.
    pub(crate) fn date(&self) -> &str {
        self.time.split(' ').next().unwrap_or_default()
    }

    /// Machine for the name of a report, such as `intel-xeon-2-cpus`.
    pub(crate) fn machine(&self) -> String {
        let plain = self.processor.replace("(R)", "").replace("(TM)", "").replace("Processor", "");
        slug(&format!("{plain} {} cpus", self.processors))
    }
}

/// The values of `name : value` lines, as `/proc/cpuinfo` and `/proc/meminfo` have them.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (label, value) = line.split_once(':')?;
        (label.trim() == name).then(|| value.trim().to_owned())
    })
}

fn kilobytes(text: &str) -> Option<u64> {
    Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn value(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let active = state.trim().strip_prefix("Mitigation: ")?.to_owned();
            Some((entry.file_name().to_string_lossy().into_owned(), active))
        })
        .collect()
}

/// Lower case letters and digits, everything else one hyphen.
fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

/// Arguments as a shell would take them again; the program by its name alone.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let quoted = arguments.enumerate().map(|(index, argument)| {
        if index == 0 {
            return argument.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_=.,:/+@%".contains(character);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_label() {
        let text = "model\t\t: 167\nmodel name\t: Intel(R) Xeon(R) Processor\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Intel(R) Xeon(R) Processor"));
        assert_eq!(field(text, "name"), None);
        assert_eq!(kilobytes("24 kB"), Some(24 * 1024));
    }

    #[test]
    fn a_machine_has_a_name_that_fits_a_path() {
        let environment =
            Environment { processor: "Intel(R) Xeon(R) Processor".into(), processors: 2, ..Environment::read() };
        assert_eq!(environment.machine(), "intel-xeon-2-cpus");
        assert_eq!(environment.date().len(), "2025-11-21".len());
    }

    #[test]
    fn commands_can_be_pasted() {
        let arguments = ["/a/b/crore-bench", "compare", "--extra", "x=./x {port}", "it's", ""].map(str::to_owned);
        assert_eq!(command_line(arguments.into_iter()), r"crore-bench compare --extra 'x=./x {port}' 'it'\''s' ''");
    }
}
