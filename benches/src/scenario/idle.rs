//! Idle connections: what each costs the server in user memory, and the kernel at the server's end.
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
use std::time::{Duration, Instant};

use serde::Serialize;

use super::calibration::{calibrate, foreign, is_disturbed, slab_growth, wait_until_sockets_rest};
use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::IdleOptions;
use crate::client::frame::{STAMP_BYTES, Shape, Stamp, opcode};
use crate::client::payload::Payload;
use crate::client::{Actions, Client, ClientConfig, Load};
use crate::measure::latency::Latencies;
use crate::measure::memory::ProcessMemory;
use crate::measure::slab::{Aliases, KernelMemory, SlabGrowth, SocketCounts};
use crate::measure::usage::Observer;

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

/// Bytes of the message that is exchanged: enough that it is worth compressing.
const EXCHANGED_BYTES: usize = 4096;

/// How long the exchange of all connections may take.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(60);

/// Connections that are idle at once, or after one message there and back.
struct Quiet {
    exchange: bool,
    exchanged: u32,
}

impl Load for Quiet {
    fn opened(&mut self, slot: u32, _latency_ns: u64, actions: &mut Actions) {
        if self.exchange {
            actions.send(slot, 1);
        }
    }

    fn message(&mut self, _slot: u32, _stamp: Stamp, _now_ns: u64, _actions: &mut Actions) {
        self.exchanged += 1;
    }
}

impl Quiet {
    /// Opens connections until `wanted` are open and have done what they have to.
    fn open(&mut self, wanted: u32, client: &mut Client, progress: &Progress) -> Result<(), ScenarioError> {
        client.open_up_to(wanted, self, |open| progress.at(open))?;
        let begin = Instant::now();
        while self.exchange && self.exchanged < wanted {
            client.turn(self)?;
            if begin.elapsed() > EXCHANGE_PATIENCE {
                return Err(ScenarioError::Silent { connections: wanted - self.exchanged });
            }
        }
        Ok(())
    }
}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be reached or measured.
pub(super) fn run(options: &IdleOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let connections = options.connections;
    let payload_bytes = if options.exchange { EXCHANGED_BYTES } else { STAMP_BYTES };
    let shape = Shape { opcode: opcode::TEXT, payload_bytes, payload: Payload::Json };
    let config = run.client_config(&options.target, connections, shape)?;
    let config = ClientConfig { compress: options.compress, sends_compressed: true, ..config };
    let mut load = Quiet { exchange: options.exchange, exchanged: 0 };
    let pid = options.target.server_pid;
    let observer = Observer::new(pid, run.client_core);
    let user = |pid: Option<u32>| pid.map(ProcessMemory::read).transpose();
    let mut client = Client::new(config)?;
    let aliases = Aliases::read();
    progress.counted("calibrating", options.calibration);
    let client_end = calibrate(options, &aliases)?;
    wait_until_sockets_rest(connections, options.patience)?;

    let look = observer.look()?;
    let (user_before, kernel_before) = (user(pid)?, KernelMemory::read()?);
    progress.counted("opening", connections);
    load.open(connections / 2, &mut client, progress)?;
    super::load_for("settling", options.settle / 2, &mut client, &mut load, progress)?;
    let user_half = user(pid)?;
    progress.counted("opening", connections);
    load.open(connections, &mut client, progress)?;
    super::load_for("settling", options.settle, &mut client, &mut load, progress)?;
    let (user_after, kernel_after) = (user(pid)?, KernelMemory::read()?);
    let usage = observer.usage_since(&look, u64::from(connections))?;
    let mut outcome = Outcome::new("connection", u64::from(connections), usage, &Latencies::default(), &client);

    let per_connection = |from: u64, to: u64, count: u32| (to as f64 - from as f64) / f64::from(count.max(1));
    let user = match (user_before, user_half, user_after) {
        (Some(before), Some(half), Some(after)) => Some(UserMemory {
            before,
            after,
            bytes_per_connection: per_connection(before.rss_bytes, after.rss_bytes, connections),
            marginal_bytes_per_connection: per_connection(
                half.rss_bytes,
                after.rss_bytes,
                connections - connections / 2,
            ),
        }),
        _ => None,
    };
    let slabs = slab_growth(&kernel_before, &kernel_after, &aliases);
    let shares = slabs.as_ref().map(|slabs| divide(slabs, connections, client_end.as_ref())).unwrap_or_default();
    let foreign_sockets = foreign(&kernel_before.tcp, &kernel_after.tcp, connections);
    let kernel = KernelShare {
        both_ends_bytes: slabs.is_some().then(|| shares.iter().map(|share| share.both_ends_bytes).sum()),
        server_end_bytes: (!shares.is_empty())
            .then(|| shares.iter().map(|share| share.server_end_bytes).sum())
            .flatten(),
        slab_page_bytes: per_connection(kernel_before.slab_bytes, kernel_after.slab_bytes, connections),
        page_table_bytes: per_connection(kernel_before.page_table_bytes, kernel_after.page_table_bytes, connections),
        slabs: shares,
        tcp: [kernel_before.tcp, kernel_after.tcp],
        foreign_sockets,
        disturbed: is_disturbed(foreign_sockets, connections),
    };
    outcome.idle = Some(IdleMemory { connections, user, kernel });
    Ok(outcome)
}

/// Both ends, and the server's by subtraction, in bytes per connection.
fn divide(slabs: &[SlabGrowth], connections: u32, client_end: Option<&BTreeMap<String, f64>>) -> Vec<SlabShare> {
    let share = |slab: &SlabGrowth| {
        let both_ends_bytes = slab.bytes as f64 / f64::from(connections.max(1));
        let client_end_bytes = client_end.map(|ends| ends.get(&slab.name).copied().unwrap_or(0.0));
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
        let shares = divide(&seen, 1000, Some(&ends));
        let server: Vec<_> =
            shares.iter().map(|share| (share.name.as_str(), share.server_end_bytes.expect("calibrated"))).collect();
        assert_eq!(server, [("TCP", 2000.0), ("io_kiocb", 0.0), ("eventpoll_epi", 128.0), ("tcp_bind_bucket", 0.0)]);
    }

    #[test]
    fn without_a_calibration_both_ends_stay_together() {
        let shares = divide(&[slab("TCP", 2000, 2000)], 1000, None);
        assert_eq!((shares[0].both_ends_bytes, shares[0].server_end_bytes), (4000.0, None));
    }
}
