//! What there is: files below a root, and what io_uring answers.

use std::fs;
use std::path::PathBuf;
use std::thread;

use crore_engine::uring::{
    Capability, DescriptorKind, DescriptorSetting, Features, KernelRelease, SetupError, capabilities, probe,
};
use crore_engine::{HostMemory, kernel_connection_bytes};

/// A limit of the process (`getrlimit(2)`); [`u64::MAX`] is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// What io_uring can do here.
#[derive(Debug)]
pub(super) struct Uring {
    pub(super) features: Features,
    pub(super) capabilities: Vec<Capability>,
}

/// Capabilities of a process that exempt it from limits; bits of `CapEff` (`capabilities(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    IpcLock = 14,
    SysAdmin = 21,
    SysResource = 24,
}

/// A host that is examined.
pub(super) struct Host {
    /// `/`, or a directory with a `proc` and a `sys` that are made up.
    root: PathBuf,
    pub(super) uring: Result<Uring, SetupError>,
}

impl Host {
    /// The host, the user and the limits that this program runs with.
    pub(super) fn this(setting: DescriptorSetting) -> Self {
        // On a thread of its own: while the kernel takes the probe's rings down, system calls of the thread that
        // made them are interrupted.
        let ask = move || Ok(Uring { features: probe(setting)?, capabilities: capabilities()? });
        let uring = thread::scope(|scope| scope.spawn(ask).join())
            .unwrap_or_else(|_| Err(SetupError::Other(std::io::Error::other("the probe panicked"))));
        Self::new(PathBuf::from("/"), uring)
    }

    pub(super) fn new(root: PathBuf, uring: Result<Uring, SetupError>) -> Self {
        Self { root, uring }
    }

    /// A file, if it can be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }

    /// A file below `/proc/sys`, its words separated by one space.
    pub(super) fn sysctl(&self, name: &str) -> Option<String> {
        let text = self.text(&format!("/proc/sys/{}", name.replace('.', "/")))?;
        Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The only number of such a file.
    pub(super) fn sysctl_number(&self, name: &str) -> Option<u64> {
        self.sysctl(name)?.parse().ok()
    }

    /// The value of a line `Name: value` of a file.
    fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))?;
        Some(value.to_owned())
    }

    /// A line of `/proc/self/status`.
    pub(super) fn status(&self, name: &str) -> Option<String> {
        self.field("/proc/self/status", name)
    }

    /// Bytes, of a line of `/proc/meminfo`.
    pub(super) fn meminfo(&self, name: &str) -> Option<u64> {
        self.field("/proc/meminfo", name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// A line of `/proc/self/limits`, such as `Max open files`.
    pub(super) fn limit(&self, name: &str) -> Option<Limit> {
        let text = self.text("/proc/self/limits")?;
        let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        Some(Limit { soft: next()?, hard: next()? })
    }

    /// Whether this process has a privilege.
    pub(super) fn may(&self, privilege: Privilege) -> bool {
        let effective = self.status("CapEff").and_then(|bits| u64::from_str_radix(&bits, 16).ok());
        effective.is_some_and(|bits| bits >> (privilege as u32) & 1 == 1)
    }

    /// Whether this process belongs to a group.
    pub(super) fn is_in_group(&self, group: u64) -> bool {
        let all = [self.status("Gid"), self.status("Groups")];
        all.iter().flatten().flat_map(|line| line.split_ascii_whitespace()).any(|id| id.parse() == Ok(group))
    }

    /// What the engine would find.
    pub(super) fn memory(&self) -> HostMemory {
        HostMemory::read(&self.root)
    }

    /// What the engine would count for each connection, in bytes of the kernel's.
    pub(super) fn kernel_connection_bytes(&self, ipv6: bool, kind: DescriptorKind) -> u64 {
        kernel_connection_bytes(&self.root, ipv6, kind)
    }

    pub(super) fn kernel(&self) -> KernelRelease {
        KernelRelease::parse(&self.sysctl("kernel.osrelease").unwrap_or_default())
    }
}
