//! What the host has room for: the memory budget if none is set, what the kernel keeps for a connection, and how
//! many connections that makes.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::limits::{BUDGET_PERCENT, CONNECTIONS_PER_CORE_MAX, Limits, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crate::limits::{MEMORY_ADMISSION_DENOMINATOR, MEMORY_ADMISSION_NUMERATOR};
use crate::uring::DescriptorKind;

/// How many connections an engine can hold, and what keeps it from more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// Connections of each core.
    pub connections_per_core_max: u32,
    /// Why not more.
    pub bound: Bound,
    /// Bytes that all cores together may hold, the kernel's share included, as
    /// [`Limits::memory_budget_bytes`] says or the host allows.
    pub memory_budget_bytes: u64,
    /// About what the kernel keeps for a connection, in bytes.
    pub kernel_connection_bytes: u64,
}

/// What keeps an engine from holding more connections. Its text says what to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Limits::connections_per_core_max`].
    Setting,
    /// The process's limit on descriptors.
    Descriptors,
    /// The kernel's limit on the table of direct descriptors of one ring.
    RingTable,
    /// The memory budget.
    Memory,
    /// What an identifier can name.
    Identifiers,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setting => "connections_per_core_max, as it is set",
            Self::Descriptors => {
                "the limit on descriptors (RLIMIT_NOFILE): raise it with `ulimit -n`, or `LimitNOFILE=` in a systemd unit"
            }
            Self::RingTable => "the table of direct descriptors, 2^20 for each ring: run on more cores",
            Self::Memory => "the memory budget: raise memory_budget, or the memory limit that it was taken from",
            Self::Identifiers => "the identifiers, 2^24 for each core: run on more cores",
        })
    }
}

/// What an engine's room depends on.
pub(crate) struct Host {
    pub(crate) cores: usize,
    pub(crate) descriptors: DescriptorKind,
    /// The process's limit on descriptors.
    pub(crate) descriptor_limit: u64,
    /// What the engine keeps for a connection, in bytes.
    pub(crate) user_connection_bytes: u64,
    pub(crate) kernel_connection_bytes: u64,
    /// What the budget is if none is set.
    pub(crate) memory_bytes: u64,
}

impl Host {
    /// How many connections each core can hold: the least of all bounds.
    pub(crate) fn room(&self, limits: &Limits) -> Room {
        let memory_budget_bytes = limits.memory_budget_bytes.unwrap_or(self.memory_bytes);
        let share = admission_bytes(memory_budget_bytes / self.cores as u64);
        let each = self.user_connection_bytes + self.kernel_connection_bytes;
        let by_memory = share.saturating_sub(CORE_BYTES) / each;
        let by_table = DescriptorKind::direct_connections_max();
        let by_descriptors = u64::from(self.descriptors.connections_per_core_at(self.descriptor_limit, self.cores));
        let bounds = [
            (limits.connections_per_core_max.map_or(u64::MAX, u64::from), Bound::Setting),
            // Before descriptors, which are as many where the limit on them is above the table's.
            (if self.descriptors == DescriptorKind::Direct { by_table } else { u64::MAX }, Bound::RingTable),
            (by_descriptors, Bound::Descriptors),
            (by_memory, Bound::Memory),
            (u64::from(CONNECTIONS_PER_CORE_MAX), Bound::Identifiers),
        ];
        let (most, bound) = bounds.into_iter().min_by_key(|(most, _)| *most).expect("there are five");
        Room {
            connections_per_core_max: u32::try_from(most).unwrap_or(CONNECTIONS_PER_CORE_MAX),
            bound,
            memory_budget_bytes,
            kernel_connection_bytes: self.kernel_connection_bytes,
        }
    }
}

/// What a core holds without any connection.
const CORE_BYTES: u64 = RECEIVE_BUFFERS as u64 * RECEIVE_BUFFER_BYTES as u64;

/// The part of a core's share of the budget up to which connections are let in.
pub(crate) const fn admission_bytes(share: u64) -> u64 {
    share / MEMORY_ADMISSION_DENOMINATOR * MEMORY_ADMISSION_NUMERATOR
}

/// The budget if none is set: [`BUDGET_PERCENT`] of the cgroup's limit or of what the host has available,
/// whichever is less; without bound if neither can be read.
pub(crate) fn memory_bytes() -> u64 {
    let available = read("/proc/meminfo").and_then(|text| available_bytes(&text));
    let limit = read("/proc/self/cgroup").and_then(|text| cgroup_limit(&text, Path::new("/sys/fs/cgroup")));
    match [available, limit].into_iter().flatten().min() {
        Some(bytes) => bytes / 100 * BUDGET_PERCENT,
        None => u64::MAX,
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `MemAvailable` of `proc_meminfo(5)`, which is in units of 1,024 bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least memory limit from a process's cgroup up to the root (`cgroups(7)`): of version 2 `memory.max`, and
/// `memory.high`, beyond which the process is slowed down; of version 1 `memory.limit_in_bytes`.
fn cgroup_limit(memberships: &str, mount: &Path) -> Option<u64> {
    let limits = memberships.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, files): (_, &[&str]) = match controllers {
            "" => (mount.to_owned(), &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|it| it == "memory") => (mount.join("memory"), &["memory.limit_in_bytes"]),
            _ => return None,
        };
        // In a container the path may be that of the host; then only the root is there.
        let groups = Path::new(path.trim_start_matches('/')).ancestors().map(move |group| root.join(group));
        groups.flat_map(|group| files.iter().filter_map(move |file| limit(&group.join(file)))).min()
    });
    limits.min()
}

/// A limit of a cgroup; `max` is none.
fn limit(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// About what the kernel keeps for one connection, in bytes: the sizes of its objects as `slabinfo(5)` has them
/// where it may be read, else those of Linux 6.18 on x86-64.
pub(crate) fn kernel_connection_bytes(ipv6: bool, descriptors: DescriptorKind) -> u64 {
    kernel_bytes(&read("/proc/slabinfo").unwrap_or_default(), ipv6, descriptors)
}

fn kernel_bytes(slabinfo: &str, ipv6: bool, descriptors: DescriptorKind) -> u64 {
    // A cache that the kernel has merged with another one of its size is not listed by its name.
    let size = |name: &str, otherwise: u64| {
        let line = slabinfo.lines().find(|line| line.split_ascii_whitespace().next() == Some(name));
        line.and_then(|line| line.split_ascii_whitespace().nth(3)?.parse().ok()).unwrap_or(otherwise)
    };
    let socket = if ipv6 { size("TCPv6", 2496) } else { size("TCP", 2368) };
    let slot = if descriptors == DescriptorKind::Direct { DIRECT_SLOT_BYTES } else { 0 };
    let file = size("filp", 192) + size("dentry", 192) + size("sock_inode_cache", 832);
    socket + file + size("io_kiocb", 256) + SECURITY_BYTES + slot
}

/// What security modules attach to a socket and its file.
const SECURITY_BYTES: u64 = 64;

/// A direct descriptor's node in the ring's table.
const DIRECT_SLOT_BYTES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            cores: 4,
            descriptors: DescriptorKind::Direct,
            descriptor_limit: 1 << 21,
            user_connection_bytes: 100,
            kernel_connection_bytes: 3_900,
            memory_bytes: 64 << 30,
        }
    }

    #[test]
    fn the_least_bound_binds() {
        let bound = |host: Host, limits: &Limits| {
            let room = host.room(limits);
            (room.bound, room.connections_per_core_max)
        };
        let limits = Limits::default();
        assert_eq!(bound(host(), &limits), (Bound::RingTable, (1 << 20) - 256));
        assert_eq!(bound(Host { descriptor_limit: 20_000, ..host() }, &limits), (Bound::Descriptors, 20_000 - 256));
        let (by, most) = bound(Host { descriptors: DescriptorKind::Regular, ..host() }, &limits);
        assert!(by == Bound::Descriptors && most.abs_diff(1 << 19) < 100, "{most}");
        let set = Limits { connections_per_core_max: Some(7), ..Limits::default() };
        assert_eq!(bound(host(), &set), (Bound::Setting, 7));
        let (by, most) = bound(host(), &Limits { memory_budget_bytes: Some(1 << 30), ..Limits::default() });
        assert!(
            by == Bound::Memory && (60_000..=64_000).contains(&most),
            "a quarter of a gigabyte, less a bit: {most}"
        );
        assert_eq!(bound(host(), &Limits { memory_budget_bytes: Some(1 << 20), ..limits }), (Bound::Memory, 0));
    }

    #[test]
    fn every_bound_says_what_to_raise() {
        for (bound, word) in [
            (Bound::Setting, "connections_per_core_max"),
            (Bound::Descriptors, "LimitNOFILE="),
            (Bound::RingTable, "cores"),
            (Bound::Memory, "memory_budget"),
            (Bound::Identifiers, "cores"),
        ] {
            assert!(bound.to_string().contains(word), "{bound}");
        }
    }

    #[test]
    fn what_is_available_is_read_in_bytes() {
        assert_eq!(available_bytes("MemTotal:       24684096 kB\nMemAvailable:    2 kB\n"), Some(2048));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let mount = std::env::temp_dir().join(format!("crore-cgroup-{}", std::process::id()));
        let write = |group: &str, file: &str, text: &str| {
            fs::create_dir_all(mount.join(group)).unwrap();
            fs::write(mount.join(group).join(file), text).unwrap();
        };
        write("a", "memory.max", "5000\n");
        write("a/b", "memory.max", "max\n");
        assert_eq!(cgroup_limit("0::/a/b\n", &mount), Some(5000), "the parent's");
        write("a/b", "memory.high", "4000\n");
        assert_eq!(cgroup_limit("0::/a/b\n", &mount), Some(4000));
        assert_eq!(cgroup_limit("0::/\n", &mount), None, "the root has no limit");
        write("memory", "memory.limit_in_bytes", "3000\n");
        write("memory/x", "memory.limit_in_bytes", "9000\n");
        let version_1 = "9:cpu,cpuacct:/x\n4:memory:/x\n0::/a\n";
        assert_eq!(cgroup_limit(version_1, &mount), Some(3000));
        assert_eq!(cgroup_limit("4:memory:/elsewhere/x\n", &mount), Some(3000), "as seen from within a container");
        fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn the_kernel_is_asked_for_its_sizes() {
        let constants = 2368 + 832 + 192 + 192 + 256 + 64;
        assert_eq!(kernel_bytes("", false, DescriptorKind::Regular), constants);
        assert_eq!(kernel_bytes("", true, DescriptorKind::Direct), constants + 128 + 32);
        let table =
            "slabinfo - version: 2.1\nTCP 26 26 2400 13 8 : tunables 0 0 0\nTCPv6 1 1 9 1 1\nfilp 1 1 200 1 1\n";
        assert_eq!(kernel_bytes(table, false, DescriptorKind::Regular), constants + 32 + 8);
    }
}
