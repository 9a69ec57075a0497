//! Regular descriptors, which the process limit counts, and direct ones, which live in a ring.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::time::Duration;

use io_uring::{IoUring, opcode, types};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{CONNECTIONS_PER_CORE_MAX, SOCKETS_SPARE};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DescriptorSetting {
    /// Direct descriptors where the kernel releases them properly (6.13 and newer), else regular.
    #[default]
    Auto,
    /// Regular descriptors: every kernel, limited by `RLIMIT_NOFILE` for the whole process.
    Regular,
    /// Direct descriptors: limited by `RLIMIT_NOFILE` and 2^20 for each ring.
    Direct,
}

/// Text of a descriptor setting that is none: use `auto`, `regular` or `direct`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of descriptor: use `auto`, `regular` or `direct`")]
pub struct UnknownDescriptorSetting(String);

impl FromStr for DescriptorSetting {
    type Err = UnknownDescriptorSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "regular" => Ok(Self::Regular),
            "direct" => Ok(Self::Direct),
            other => Err(UnknownDescriptorSetting(other.to_owned())),
        }
    }
}

/// What a ring uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorKind {
    /// Entries of the process's table.
    Regular,
    /// Entries of the ring's own table.
    Direct,
}

impl fmt::Display for DescriptorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "regular",
            Self::Direct => "direct",
        })
    }
}

/// Slots that the kernel allows in one ring's table (`IORING_MAX_FIXED_FILES`).
const DIRECT_SLOTS_MAX: u64 = 1 << 20;

/// Descriptors that the process may open: the soft `RLIMIT_NOFILE`.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft `RLIMIT_NOFILE` to the hard one, for programs that call no `select(2)`: for its sake alone the
/// soft one is low. Returns what the soft limit is then.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Refused only by a security module; then the limit stays what it is, and is returned.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    descriptor_limit()
}

impl DescriptorKind {
    /// How many connections one of `cores` rings can hold with this kind of descriptor, under the limit of this
    /// process.
    #[must_use]
    pub fn connections_per_core(self, cores: usize) -> u32 {
        self.connections_per_core_at(descriptor_limit(), cores)
    }

    /// How many connections the table of one ring has room for.
    #[must_use]
    pub const fn direct_connections_max() -> u64 {
        DIRECT_SLOTS_MAX - SOCKETS_SPARE as u64
    }

    /// How many connections one of `cores` rings can hold with this kind of descriptor where the soft
    /// `RLIMIT_NOFILE` is `limit`, as far as descriptors go.
    #[must_use]
    pub fn connections_per_core_at(self, limit: u64, cores: usize) -> u32 {
        let cores = cores.max(1) as u64;
        let count = match self {
            Self::Direct => limit.min(DIRECT_SLOTS_MAX).saturating_sub(u64::from(SOCKETS_SPARE)),
            Self::Regular => limit.saturating_sub(RESERVED_DESCRIPTORS + RESERVED_PER_CORE * cores) / cores,
        };
        u32::try_from(count).unwrap_or(u32::MAX).min(CONNECTIONS_PER_CORE_MAX)
    }
}

/// Descriptors that the process keeps for itself: logs, configuration, a few listeners.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Descriptors of one worker: two rings, the doorbell, the runtime, the listener.
const RESERVED_PER_CORE: u64 = 16;

/// Whether closing a direct descriptor releases the socket while other requests are in flight.
///
/// Before Linux 6.13 it does not: a closed slot waits for every older request on any direct
/// descriptor, and a server always has some. So the kernel is asked by doing it: with a poll armed on
/// one slot, another slot that holds the only reference to a pipe is closed, and the pipe's other
/// end has to say so.
pub(super) fn direct_descriptors_are_released() -> io::Result<bool> {
    let mut ring: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4)?;
    let (quiet_reader, _quiet_writer) = rustix::pipe::pipe()?;
    let (reader, writer) = rustix::pipe::pipe()?;
    ring.submitter().register_files(&[quiet_reader.as_raw_fd(), writer.as_raw_fd()])?;
    drop(writer);
    let poll = opcode::PollAdd::new(types::Fixed(0), libc::POLLIN as u32).build().user_data(1);
    let close = opcode::Close::new(types::Fixed(1)).build().user_data(2);
    for entry in [poll, close] {
        // SAFETY: neither request refers to memory of the process.
        unsafe { ring.submission().push(&entry) }.map_err(|_| io::Error::other("the probe's queue is full"))?;
        ring.submit_and_wait(usize::from(entry.get_user_data() == 2))?;
    }
    let mut watched = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec::try_from(RELEASE_PATIENCE).map_err(io::Error::other)?;
    rustix::event::poll(&mut watched, Some(&patience))?;
    Ok(watched[0].revents().contains(rustix::event::PollFlags::HUP))
}

/// How long a released descriptor may take to be seen: the release is deferred to task work.
const RELEASE_PATIENCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_refused() {
        assert_eq!("direct".parse(), Ok(DescriptorSetting::Direct));
        assert!("fixed".parse::<DescriptorSetting>().unwrap_err().to_string().contains("`regular`"));
    }

    #[test]
    fn regular_descriptors_are_shared_and_direct_ones_are_not() {
        use DescriptorKind::{Direct, Regular};
        assert_eq!(Regular.connections_per_core_at(20_000, 2), (20_000 - 32 - 2 * 16) / 2);
        assert_eq!(Direct.connections_per_core_at(20_000, 2), 20_000 - 256);
        assert_eq!(Direct.connections_per_core_at(u64::MAX, 64), (1 << 20) - 256);
        assert_eq!(Regular.connections_per_core_at(u64::MAX, 1), CONNECTIONS_PER_CORE_MAX);
        for kind in [Direct, Regular] {
            assert_eq!(kind.connections_per_core_at(40, 1), 0);
            assert_eq!(kind.connections_per_core(2), kind.connections_per_core_at(descriptor_limit(), 2));
        }
    }

    #[test]
    fn the_probe_answers() {
        direct_descriptors_are_released().unwrap();
    }
}
