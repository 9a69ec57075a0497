//! What the host has room for: how many connections its descriptors and its memory make.

mod host_memory;

use std::fmt;

use crate::limits::{CONNECTIONS_PER_CORE_MAX, Limits, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crate::limits::{MEMORY_ADMISSION_DENOMINATOR, MEMORY_ADMISSION_NUMERATOR};
use crate::uring::DescriptorKind;
pub use host_memory::{HostMemory, kernel_connection_bytes};

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

/// What an engine's room depends on, besides its [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Cores that the engine runs on; at least one.
    pub cores: usize,
    /// The kind of descriptors that connections take.
    pub descriptors: DescriptorKind,
    /// The process's limit on descriptors (`RLIMIT_NOFILE`, the soft one).
    pub descriptor_limit: u64,
    /// What the engine keeps for a connection, in bytes: [`connection_bytes`](crate::connection_bytes).
    pub user_connection_bytes: u64,
    /// What the kernel keeps for a connection, in bytes: [`kernel_connection_bytes`].
    pub kernel_connection_bytes: u64,
    /// What the memory budget is if none is set, in bytes: [`HostMemory::budget_bytes`].
    pub memory_bytes: u64,
}

impl Resources {
    /// Connections of each core that each bound allows; [`u64::MAX`] where it is none.
    #[must_use]
    pub fn bounds(&self, limits: &Limits) -> [(Bound, u64); 5] {
        let share = admission_bytes(self.memory_budget_bytes(limits) / self.cores as u64);
        let each = self.user_connection_bytes + self.kernel_connection_bytes;
        let by_memory = share.saturating_sub(CORE_BYTES) / each;
        let by_table = DescriptorKind::direct_connections_max();
        let by_descriptors = u64::from(self.descriptors.connections_per_core_at(self.descriptor_limit, self.cores));
        [
            (Bound::Setting, limits.connections_per_core_max.map_or(u64::MAX, u64::from)),
            // Before descriptors, which are as many where the limit on them is above the table's.
            (Bound::RingTable, if self.descriptors == DescriptorKind::Direct { by_table } else { u64::MAX }),
            (Bound::Descriptors, by_descriptors),
            (Bound::Memory, by_memory),
            (Bound::Identifiers, u64::from(CONNECTIONS_PER_CORE_MAX)),
        ]
    }

    /// How many connections each core can hold: the least of all bounds.
    #[must_use]
    pub fn room(&self, limits: &Limits) -> Room {
        let (bound, most) = self.bounds(limits).into_iter().min_by_key(|(_, most)| *most).expect("there are five");
        Room {
            connections_per_core_max: u32::try_from(most).unwrap_or(CONNECTIONS_PER_CORE_MAX),
            bound,
            memory_budget_bytes: self.memory_budget_bytes(limits),
            kernel_connection_bytes: self.kernel_connection_bytes,
        }
    }

    /// Bytes that all cores together may hold.
    #[must_use]
    pub fn memory_budget_bytes(&self, limits: &Limits) -> u64 {
        limits.memory_budget_bytes.unwrap_or(self.memory_bytes)
    }
}

/// What a core holds without any connection.
const CORE_BYTES: u64 = RECEIVE_BUFFERS as u64 * RECEIVE_BUFFER_BYTES as u64;

/// The part of a core's share of the budget up to which connections are let in.
pub(crate) const fn admission_bytes(share: u64) -> u64 {
    share / MEMORY_ADMISSION_DENOMINATOR * MEMORY_ADMISSION_NUMERATOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources {
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
        let bound = |resources: Resources, limits: &Limits| {
            let room = resources.room(limits);
            (room.bound, room.connections_per_core_max)
        };
        let limits = Limits::default();
        assert_eq!(bound(resources(), &limits), (Bound::RingTable, (1 << 20) - 256));
        assert_eq!(
            bound(Resources { descriptor_limit: 20_000, ..resources() }, &limits),
            (Bound::Descriptors, 20_000 - 256)
        );
        let (by, most) = bound(Resources { descriptors: DescriptorKind::Regular, ..resources() }, &limits);
        assert!(by == Bound::Descriptors && most.abs_diff(1 << 19) < 100, "{most}");
        let set = Limits { connections_per_core_max: Some(7), ..Limits::default() };
        assert_eq!(bound(resources(), &set), (Bound::Setting, 7));
        let (by, most) = bound(resources(), &Limits { memory_budget_bytes: Some(1 << 30), ..Limits::default() });
        assert!(
            by == Bound::Memory && (60_000..=64_000).contains(&most),
            "a quarter of a gigabyte, less a bit: {most}"
        );
        assert_eq!(bound(resources(), &Limits { memory_budget_bytes: Some(1 << 20), ..limits }), (Bound::Memory, 0));
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
}
