//! Memory that the host has left, and what its kernel keeps for a connection: read from files below a root.

use std::fs;
use std::path::Path;

use crate::limits::BUDGET_PERCENT;
use crate::uring::DescriptorKind;

/// Memory that a process of this host may still take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Bytes that the host has available: `MemAvailable` of `proc_meminfo(5)`. `None`: it can't be read.
    pub available_bytes: Option<u64>,
    /// Bytes that the memory cgroups of this process leave to it, the least of all levels. `None`: none of them has
    /// a limit.
    pub cgroup_bytes: Option<u64>,
}

impl HostMemory {
    /// Reads `proc` and `sys` below `root`: `/` is the host itself.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let available = read(&root.join("proc/meminfo")).and_then(|text| available_bytes(&text));
        let memberships = read(&root.join("proc/self/cgroup"));
        let cgroup = memberships.and_then(|text| cgroup_bytes(&text, &root.join("sys/fs/cgroup")));
        Self { available_bytes: available, cgroup_bytes: cgroup }
    }

    /// The memory budget of an engine that has none set, in bytes: [`BUDGET_PERCENT`] of what there is, without bound
    /// if that can't be read.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        match [self.available_bytes, self.cgroup_bytes].into_iter().flatten().min() {
            Some(bytes) => bytes / 100 * BUDGET_PERCENT,
            None => u64::MAX,
        }
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `MemAvailable` is in units of 1,024 bytes.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the cgroups from a process's own up to the root leave, where `memberships` is `/proc/self/cgroup`.
fn cgroup_bytes(memberships: &str, mount: &Path) -> Option<u64> {
    let rooms = memberships.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, files) = match controllers {
            "" => (mount.to_owned(), &VERSION_2),
            _ if controllers.split(',').any(|it| it == "memory") => (mount.join("memory"), &VERSION_1),
            _ => return None,
        };
        // In a container the path may be that of the host; then only the root is there.
        let groups = Path::new(path.trim_start_matches('/')).ancestors().map(|group| root.join(group));
        groups.filter_map(|group| files.room(&group)).min()
    });
    rooms.min()
}

/// What a cgroup says of its memory (`cgroups(7)`).
struct CgroupFiles {
    /// Beyond them the process is slowed down, or ended.
    limits: &'static [&'static str],
    usage: &'static str,
    /// The line of `memory.stat` with pages that hold nothing but files, and go when others are needed.
    inactive: &'static str,
}

const VERSION_2: CgroupFiles =
    CgroupFiles { limits: &["memory.max", "memory.high"], usage: "memory.current", inactive: "inactive_file " };
const VERSION_1: CgroupFiles = CgroupFiles {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file ",
};

/// Bytes from which a limit of the first version is none: it has no word for it, and says 2^63, rounded to pages.
const NO_LIMIT: u64 = 1 << 62;

impl CgroupFiles {
    /// What one cgroup leaves; `None` if it has no limit.
    fn room(&self, group: &Path) -> Option<u64> {
        let number = |file: &str| read(&group.join(file))?.trim().parse::<u64>().ok();
        let limit = self.limits.iter().filter_map(|file| number(file)).filter(|limit| *limit < NO_LIMIT).min()?;
        let statistics = read(&group.join("memory.stat")).unwrap_or_default();
        let reclaimable = statistics.lines().find_map(|line| line.strip_prefix(self.inactive)?.trim().parse().ok());
        let used = number(self.usage).unwrap_or(0).saturating_sub(reclaimable.unwrap_or(0));
        Some(limit.saturating_sub(used))
    }
}

/// About what the kernel keeps for one connection, in bytes: the sizes of its objects as `slabinfo(5)` below `root`
/// has them where it may be read, else those of Linux 6.18 on x86-64.
#[must_use]
pub fn kernel_connection_bytes(root: &Path, ipv6: bool, descriptors: DescriptorKind) -> u64 {
    kernel_bytes(&read(&root.join("proc/slabinfo")).unwrap_or_default(), ipv6, descriptors)
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

    #[test]
    fn what_is_available_is_read_in_bytes() {
        assert_eq!(available_bytes("MemTotal:       24684096 kB\nMemAvailable:    2 kB\n"), Some(2048));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn what_a_cgroup_or_the_host_leaves_is_the_budget_but_for_a_fifth() {
        let budget = |available_bytes, cgroup_bytes| HostMemory { available_bytes, cgroup_bytes }.budget_bytes();
        assert_eq!(budget(Some(1000), Some(5000)), 800);
        assert_eq!(budget(Some(6000), Some(5000)), 4000);
        assert_eq!(budget(Some(6000), None), 4800);
        assert_eq!(budget(None, None), u64::MAX);
    }

    #[test]
    fn the_least_room_on_the_way_to_the_root_counts() {
        let root = std::env::temp_dir().join(format!("crore-cgroup-{}", std::process::id()));
        let mount = root.join("sys/fs/cgroup");
        let write = |group: &str, file: &str, text: &str| {
            fs::create_dir_all(mount.join(group)).unwrap();
            fs::write(mount.join(group).join(file), text).unwrap();
        };
        let left = |memberships: &str| cgroup_bytes(memberships, &mount);
        write("a", "memory.max", "5000\n");
        write("a/b", "memory.max", "max\n");
        assert_eq!(left("0::/a/b\n"), Some(5000), "the parent's");
        write("a/b", "memory.high", "4000\n");
        assert_eq!(left("0::/a/b\n"), Some(4000));
        write("a", "memory.current", "3000\n");
        assert_eq!(left("0::/a/b\n"), Some(2000), "others have taken the rest");
        write("a", "memory.stat", "anon 1000\ninactive_file 500\n");
        assert_eq!(left("0::/a/b\n"), Some(2500), "files are given up");
        assert_eq!(left("0::/\n"), None, "the root has no limit");
        write("memory", "memory.limit_in_bytes", "3000\n");
        write("memory/x", "memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/x", "memory.usage_in_bytes", "10\n");
        assert_eq!(left("9:cpu,cpuacct:/x\n4:memory:/x\n0::/b\n"), Some(3000));
        assert_eq!(left("4:memory:/elsewhere/x\n"), Some(3000), "as seen from within a container");

        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::write(root.join("proc/self/cgroup"), "0::/a\n").unwrap();
        fs::write(root.join("proc/meminfo"), "MemAvailable: 7 kB\n").unwrap();
        let memory = HostMemory { available_bytes: Some(7168), cgroup_bytes: Some(2500) };
        assert_eq!(HostMemory::read(&root), memory);
        fs::remove_dir_all(root).unwrap();
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
