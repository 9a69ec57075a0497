//! The mesh: how cores hand work to each other without a lock.
//!
//! Between each two cores runs a lane in each direction ([`lane()`]), and each core has a
//! [`Doorbell`]. A worker owns one [`Port`]: what its turn has for another core it sends as one entry,
//! and at the end of the turn it rings those who sleep.
//!
//! ```text
//! turn of core 0                                  turn of core 1
//!   port.flush_backlog()
//!   port.send(CoreId(1), batch) ── lane 0 → 1 ──►   port.receive()
//!   port.ring_doorbells() ── eventfd, if parked ──► (wakes)
//! ```
//!
//! Before it sleeps, a worker calls `doorbell().park_begin()`, looks at [`Port::has_work`] and its
//! other queues a last time, and calls `park_end()` when it is awake again; [`Doorbell`] says why that
//! loses no wake-up.
//!
//! A lane that is full makes the sender queue at home, up to a bound, and wakes it when there is room.
//!
//! The lanes and doorbells are checked under all interleavings and allowed reorderings by loom (the
//! cfg has a name of its own because other crates change their shape under `--cfg loom`):
//!
//! ```text
//! RUSTFLAGS="--cfg crore_loom" cargo test -p crore-engine --lib --release mesh::
//! ```

mod lane;
mod port;
mod sync;
mod wake;

pub use lane::{LaneReceiver, LaneSender, lane};
pub use port::Port;
pub use wake::Doorbell;

use std::io;
use std::sync::Arc;

use crate::id::CoreId;

/// The bounds of what may lie between two cores, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Entries of a lane, rounded up to a power of two. An engine of n cores has n × (n - 1) lanes,
    /// whose slots are allocated when it starts.
    pub lane_entries: usize,
    /// Entries that a sender keeps for one target whose lane is full; beyond it, a send is refused.
    pub backlog_entries_max: usize,
}

/// Why a mesh could not be built.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// no eventfd for core {core}: {source}; each core needs one, so raise the limit on descriptors
    /// (RLIMIT_NOFILE, fs.file-max)
    #[error(
        "no eventfd for core {core}: {source}; each core needs one, so raise the limit on descriptors (RLIMIT_NOFILE, fs.file-max)"
    )]
    Doorbell {
        /// The first core that has none.
        core: CoreId,
        /// What `eventfd(2)` said.
        source: io::Error,
    },
}

/// Connects `cores` cores, each with all others: the port at index i is that of core i.
///
/// # Errors
///
/// [`MeshError::Doorbell`] if the kernel has no eventfd for a core.
///
/// # Panics
///
/// If there are no cores or more than 65,536, or if a lane of `capacity.lane_entries` cannot be.
pub fn build<T>(cores: usize, capacity: Capacity) -> Result<Vec<Port<T>>, MeshError> {
    assert!((1..=1 << 16).contains(&cores), "an engine has 1 to 65,536 cores");
    let doorbells = (0..=u16::MAX)
        .take(cores)
        .map(CoreId)
        .map(|core| Doorbell::new().map_err(|source| MeshError::Doorbell { core, source }))
        .collect::<Result<Arc<[_]>, _>>()?;
    let mut ports: Vec<_> = (0..=u16::MAX)
        .take(cores)
        .map(|core| Port::new(CoreId(core), Arc::clone(&doorbells), capacity.backlog_entries_max))
        .collect();
    for lower in 0..cores {
        for upper in lower + 1..cores {
            let (up, from_lower) = lane(capacity.lane_entries);
            let (down, from_upper) = lane(capacity.lane_entries);
            // Each port meets its peers in the order of their numbers, on which it relies.
            ports[lower].add_peer(up, from_upper);
            ports[upper].add_peer(down, from_lower);
        }
    }
    Ok(ports)
}
