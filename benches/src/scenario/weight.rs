//! What a connection costs the server in user memory, and the kernel at the server's end.
//!
//! User memory is the growth of the server's resident set, over a reading from before the first
//! connection; of two such figures one divides the whole growth by all connections, and the other
//! only what the second half of them added, which leaves out what a server allocates once.
//!
//! Kernel memory on loopback is that of both ends. To tell them apart, the client first holds a number of
//! connections *both* of whose ends are its own, in the state in which it will hold its ends of the real
//! ones: half of what those cost is the price of a client's end, and is subtracted. Only buckets of bound
//! ports are not halved: a connecting socket has its own, an accepted one shares its listener's.

use std::collections::BTreeMap;

use crore_engine::uring::DescriptorSetting;
use serde::Serialize;

use super::calibration::{calibrate, foreign, is_disturbed, slab_growth, wait_until_sockets_rest};
use super::{Progress, ScenarioError};
use crate::cli::MemoryOptions;
use crate::measure::memory::ProcessMemory;
use crate::measure::slab::{Aliases, KernelMemory, SlabGrowth, SocketCounts};

/// Memory per connection.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IdleMemory {
    /// Connections that were open.
    pub(crate) connections: u32,
    /// User memory of the server, if its process is known.
    pub(crate) user: Option<UserMemory>,
    /// Kernel memory.
    pub(crate) kernel: KernelShare,
}

/// User memory of the server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UserMemory {
    /// Before the first connection.
    pub(crate) before: ProcessMemory,
    /// With all connections.
    pub(crate) after: ProcessMemory,
    /// Growth of the resident set by all connections, in bytes for each.
    pub(crate) bytes_per_connection: f64,
    /// Growth from half of the connections to all of them, in bytes for each of that half.
    pub(crate) marginal_bytes_per_connection: f64,
}

/// Kernel memory of both ends and of the server's alone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KernelShare {
    /// Objects of both ends, in bytes per connection; `None` where `/proc/slabinfo` can't be read.
    pub(crate) both_ends_bytes: Option<f64>,
    /// Of these, what the server's end has; `None` without a calibration.
    pub(crate) server_end_bytes: Option<f64>,
    /// `Slab` of `/proc/meminfo`: pages of both ends, in bytes per connection.
    pub(crate) slab_page_bytes: f64,
    /// Page tables, in bytes per connection.
    pub(crate) page_table_bytes: f64,
    /// By cache, largest first.
    pub(crate) slabs: Vec<SlabShare>,
    /// TCP sockets of the host before and with the connections.
    pub(crate) tcp: [SocketCounts; 2],
    /// Sockets of other programs that came or went meanwhile: their memory is in these figures.
    pub(crate) foreign_sockets: u64,
    /// Too many of them for the figures to mean anything.
    pub(crate) disturbed: bool,
}

/// One slab cache, in bytes per connection.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SlabShare {
    /// The cache.
    pub(crate) name: String,
    /// Bytes of one object.
    pub(crate) object_bytes: u64,
    /// Both ends.
    pub(crate) both_ends_bytes: f64,
    /// The client's, from the calibration.
    pub(crate) client_end_bytes: Option<f64>,
    /// The rest.
    pub(crate) server_end_bytes: Option<f64>,
}

/// Caches that grow by less per connection are not listed: they grow for other reasons.
const NOTABLE_BYTES: f64 = 1.0;

/// Weighs the connections that are opened after it was made.
pub(super) struct Scale {
    pid: Option<u32>,
    aliases: Aliases,
    client_end: Option<BTreeMap<String, f64>>,
    user_before: Option<ProcessMemory>,
    kernel_before: KernelMemory,
    /// Connections and user memory at [`Self::halfway`].
    half: Option<(u32, ProcessMemory)>,
}

impl Scale {
    /// Weighs the client's end of a connection, waits for a quiet moment, and takes the first readings.
    ///
    /// # Errors
    /// Something can't be read, or there are no descriptors for the client's own connections.
    pub(super) fn new(
        options: &MemoryOptions,
        descriptors: DescriptorSetting,
        pid: Option<u32>,
        connections: u32,
        progress: &Progress,
    ) -> Result<Self, ScenarioError> {
        let aliases = Aliases::read();
        progress.counted("calibrating", options.calibration);
        let client_end = calibrate(options, descriptors, &aliases)?;
        wait_until_sockets_rest(connections, options.patience)?;
        let (user_before, kernel_before) = (user(pid)?, KernelMemory::read()?);
        Ok(Self { pid, aliases, client_end, user_before, kernel_before, half: None })
    }

    /// To be called with the first half of the connections.
    ///
    /// # Errors
    /// The server is gone.
    pub(super) fn halfway(&mut self, connections: u32) -> Result<(), ScenarioError> {
        self.half = user(self.pid)?.map(|memory| (connections, memory));
        Ok(())
    }

    /// What each of so many connections costs at this moment.
    ///
    /// # Errors
    /// The server is gone, or the kernel's figures can't be read.
    pub(super) fn weigh(&self, connections: u32) -> Result<IdleMemory, ScenarioError> {
        let (user_after, kernel_after) = (user(self.pid)?, KernelMemory::read()?);
        let user = match (self.user_before, self.half, user_after) {
            (Some(before), Some((first, half)), Some(after)) => Some(UserMemory {
                before,
                after,
                bytes_per_connection: per_connection(before.rss_bytes, after.rss_bytes, connections),
                marginal_bytes_per_connection: per_connection(half.rss_bytes, after.rss_bytes, connections - first),
            }),
            _ => None,
        };
        Ok(IdleMemory { connections, user, kernel: self.kernel_share(&kernel_after, connections) })
    }

    fn kernel_share(&self, after: &KernelMemory, connections: u32) -> KernelShare {
        let before = &self.kernel_before;
        let slabs = slab_growth(before, after, &self.aliases);
        let shares = slabs
            .as_ref()
            .map(|slabs| divide(slabs, connections, self.client_end.as_ref(), &self.aliases))
            .unwrap_or_default();
        let foreign_sockets = foreign(&before.tcp, &after.tcp, connections);
        KernelShare {
            both_ends_bytes: slabs.is_some().then(|| shares.iter().map(|share| share.both_ends_bytes).sum()),
            server_end_bytes: (!shares.is_empty())
                .then(|| shares.iter().map(|share| share.server_end_bytes).sum())
                .flatten(),
            slab_page_bytes: per_connection(before.slab_bytes, after.slab_bytes, connections),
            page_table_bytes: per_connection(before.page_table_bytes, after.page_table_bytes, connections),
            slabs: shares,
            tcp: [before.tcp, after.tcp],
            foreign_sockets,
            disturbed: is_disturbed(foreign_sockets, connections),
        }
    }
}

fn user(pid: Option<u32>) -> Result<Option<ProcessMemory>, ScenarioError> {
    Ok(pid.map(ProcessMemory::read).transpose()?)
}

/// Growth in bytes for each of so many connections.
pub(super) fn per_connection(from: u64, to: u64, connections: u32) -> f64 {
    (to as f64 - from as f64) / f64::from(connections.max(1))
}

/// Both ends, and the server's by subtraction, in bytes per connection.
///
/// Buckets of ports are the client's alone. Connections from several addresses share some, those of the calibration none:
/// what is missing is no gain of the server's.
fn divide(
    slabs: &[SlabGrowth],
    connections: u32,
    client_end: Option<&BTreeMap<String, f64>>,
    aliases: &Aliases,
) -> Vec<SlabShare> {
    let share = |slab: &SlabGrowth| {
        let both_ends_bytes = slab.bytes as f64 / f64::from(connections.max(1));
        let most = if aliases.has(&slab.name, "tcp_bind") { both_ends_bytes } else { f64::INFINITY };
        let client_end_bytes = client_end.map(|ends| ends.get(&slab.name).copied().unwrap_or(0.0).min(most));
        SlabShare {
            name: slab.name.clone(),
            object_bytes: slab.object_bytes,
            both_ends_bytes,
            client_end_bytes,
            server_end_bytes: client_end_bytes.map(|client| both_ends_bytes - client),
        }
    };
    slabs.iter().map(share).filter(|share| share.both_ends_bytes.abs() >= NOTABLE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(name: &str, objects: i64, object_bytes: u64) -> SlabGrowth {
        let bytes = objects * object_bytes.cast_signed();
        SlabGrowth { name: name.into(), objects, object_bytes, bytes, page_bytes: bytes }
    }

    #[test]
    fn the_clients_end_is_subtracted_cache_by_cache() {
        let ends = [("TCP", 2000.0), ("io_kiocb", 256.0), ("tcp_bind_bucket", 128.0)];
        let ends = ends.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let seen = [
            slab("TCP", 2000, 2000),
            slab("io_kiocb", 1000, 256),
            slab("eventpoll_epi", 1000, 128),
            slab("tcp_bind_bucket", 1000, 128),
            slab("dentry", 1, 192),
        ];
        let shares = divide(&seen, 1000, Some(&ends), &Aliases::default());
        let server: Vec<_> =
            shares.iter().map(|share| (share.name.as_str(), share.server_end_bytes.expect("calibrated"))).collect();
        assert_eq!(server, [("TCP", 2000.0), ("io_kiocb", 0.0), ("eventpoll_epi", 128.0), ("tcp_bind_bucket", 0.0)]);
    }

    #[test]
    fn shared_buckets_of_ports_are_no_gain_of_the_server() {
        let ends =
            [("tcp_bind_bucket", 128.0), ("kmalloc-96", 96.0)].map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let seen = [slab("tcp_bind_bucket", 500, 128), slab("kmalloc-96", 990, 96)];
        let shares = divide(&seen, 1000, Some(&ends), &Aliases::default());
        assert_eq!((shares[0].client_end_bytes, shares[0].server_end_bytes), (Some(64.0), Some(0.0)));
        assert!(shares[1].server_end_bytes.expect("calibrated") < 0.0, "an error shows");
    }

    #[test]
    fn without_a_calibration_both_ends_stay_together() {
        let shares = divide(&[slab("TCP", 2000, 2000)], 1000, None, &Aliases::default());
        assert_eq!((shares[0].both_ends_bytes, shares[0].server_end_bytes), (4000.0, None));
    }
}
