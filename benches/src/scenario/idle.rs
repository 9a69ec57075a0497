//! Idle connections: what each costs the server in user memory, and the kernel at the server's end.
//!
//! User memory is the growth of the server's resident set, over a reading from before the first
//! connection; of two such figures one divides the whole growth by all connections, and the other
//! only what the second half of them added, which leaves out what a server allocates once.
//!
//! Kernel memory on loopback is that of both ends. To tell them apart, the client also holds a number of
//! connections *both* of whose ends are its own, in the state in which it holds its ends of the real
//! ones: half of what those cost is the price of a client's end, and is subtracted. Only buckets of bound
//! ports are not halved: a connecting socket has one, an accepted one shares its listener's.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use crore_engine::driver::{Driver, Token};
use crore_engine::uring::{DescriptorSetting, Ring, RingConfig, SetupError, probe};
use serde::Serialize;

use super::{Outcome, Progress, Run, ScenarioError};
use crate::cli::IdleOptions;
use crate::client::frame::{STAMP_BYTES, Shape, opcode};
use crate::client::{Client, ClientError, Load, Target};
use crate::measure::latency::Latencies;
use crate::measure::memory::ProcessMemory;
use crate::measure::slab::{KernelMemory, SlabGrowth, SocketCounts, growth};
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

/// Beginnings of the names of the caches that sockets, descriptors, epoll and io_uring are made from. The others grow
/// for the files and processes of the whole machine, and `tw_sock_TCP` is of earlier connections.
const CONNECTION_SLABS: [&str; 13] = [
    "TCP",
    "dentry",
    "eventpoll_",
    "ep_head",
    "filp",
    "io_",
    "kmalloc-",
    "lsm_file_cache",
    "lsm_inode_cache",
    "request_sock_",
    "skbuff_",
    "sock_inode_cache",
    "tcp_bind",
];

struct Quiet;
impl Load for Quiet {}

/// Runs the scenario on the calling thread.
///
/// # Errors
/// The server can't be reached or measured.
pub(super) fn run(options: &IdleOptions, run: &Run, progress: &Progress) -> Result<Outcome, ScenarioError> {
    let connections = options.connections;
    let shape = Shape { opcode: opcode::BINARY, payload_bytes: STAMP_BYTES };
    let config = run.client_config(&options.target, connections, shape)?;
    let pid = options.target.server_pid;
    let observer = Observer::new(pid, run.client_core);
    let user = |pid: Option<u32>| pid.map(ProcessMemory::read).transpose();
    let mut client = Client::new(config)?;

    let look = observer.look()?;
    let (user_before, kernel_before) = (user(pid)?, KernelMemory::read()?);
    progress.counted("opening", connections);
    client.open_up_to(connections / 2, &mut Quiet, |open| progress.at(open))?;
    super::load_for("settling", options.settle / 2, &mut client, &mut Quiet, progress)?;
    let user_half = user(pid)?;
    progress.counted("opening", connections);
    client.open_up_to(connections, &mut Quiet, |open| progress.at(open))?;
    super::load_for("settling", options.settle, &mut client, &mut Quiet, progress)?;
    let (user_after, kernel_after) = (user(pid)?, KernelMemory::read()?);
    let usage = observer.usage_since(&look, u64::from(connections))?;
    let mut outcome = Outcome::new("connection", u64::from(connections), usage, &Latencies::default(), &client);
    // Last of all, so that what it leaves behind is not part of the figures.
    let client_end = calibrate(options.calibration, options.target.client.descriptors)?;

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
    let slabs = slab_growth(&kernel_before, &kernel_after);
    let shares = slabs.as_ref().map(|slabs| divide(slabs, connections, client_end.as_ref())).unwrap_or_default();
    let kernel = KernelShare {
        both_ends_bytes: slabs.is_some().then(|| shares.iter().map(|share| share.both_ends_bytes).sum()),
        server_end_bytes: (!shares.is_empty())
            .then(|| shares.iter().map(|share| share.server_end_bytes).sum())
            .flatten(),
        slab_page_bytes: per_connection(kernel_before.slab_bytes, kernel_after.slab_bytes, connections),
        page_table_bytes: per_connection(kernel_before.page_table_bytes, kernel_after.page_table_bytes, connections),
        slabs: shares,
        tcp: [kernel_before.tcp, kernel_after.tcp],
    };
    outcome.idle = Some(IdleMemory { connections, user, kernel });
    Ok(outcome)
}

fn slab_growth(before: &KernelMemory, after: &KernelMemory) -> Option<Vec<SlabGrowth>> {
    let mut list = growth(before.slabs.as_ref()?, after.slabs.as_ref()?);
    list.retain(|slab| CONNECTION_SLABS.iter().any(|name| slab.name.starts_with(name)));
    Some(list)
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

/// What one end of the client's costs, by cache, in bytes. `None` if that can't be known here.
fn calibrate(connections: u32, descriptors: DescriptorSetting) -> Result<Option<BTreeMap<String, f64>>, ScenarioError> {
    let before = KernelMemory::read()?;
    if connections == 0 || before.slabs.is_none() {
        return Ok(None);
    }
    let ends = Ends::hold(connections, descriptors).map_err(ScenarioError::Client)?;
    std::thread::sleep(SETTLE);
    let after = KernelMemory::read()?;
    drop(ends);
    let list = slab_growth(&before, &after).unwrap_or_default();
    Ok(Some(client_ends(&list, connections)))
}

/// Half of the growth; of the buckets of bound ports all of it.
fn client_ends(slabs: &[SlabGrowth], connections: u32) -> BTreeMap<String, f64> {
    slabs
        .iter()
        .map(|slab| {
            let ends = if slab.name.starts_with("tcp_bind") { 1.0 } else { 2.0 };
            (slab.name.clone(), slab.bytes as f64 / ends / f64::from(connections))
        })
        .collect()
}

/// The kernel frees and moves some objects a moment later.
const SETTLE: Duration = Duration::from_millis(200);

/// Connections with both ends here, in the state in which a [`Client`] holds its own.
struct Ends {
    _ring: Ring,
    _wake: std::os::fd::OwnedFd,
}

impl Ends {
    fn hold(connections: u32, descriptors: DescriptorSetting) -> Result<Self, ClientError> {
        let features = probe(descriptors)?;
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut ring =
            Ring::new(&RingConfig::new(features, connections * 2 + 1), wake.as_fd()).map_err(|error| match error {
                SetupError::NoDescriptor(_) => {
                    ClientError::Descriptors { wanted: connections * 2, limit: crore_engine::uring::descriptor_limit() }
                }
                other => other.into(),
            })?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = Target::on_loopback(listener.local_addr()?);
        for number in 0..connections {
            let mut near: std::net::TcpStream = target.connect(u64::from(number), true)?.into();
            let (mut far, _) = listener.accept()?;
            // As much as the two heads of a handshake, once in each direction.
            let mut head = [b'x'; 160];
            near.write_all(&head)?;
            far.read_exact(&mut head)?;
            far.write_all(&head)?;
            near.read_exact(&mut head)?;
            for end in [near, far] {
                let socket = ring.adopt(end.into())?;
                ring.receive_multishot(socket, Token::new(u64::from(socket.0)));
            }
            ring.enter()?;
        }
        Ok(Self { _ring: ring, _wake: wake })
    }
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
        let own = [slab("TCP", 200, 2000), slab("io_kiocb", 200, 256), slab("tcp_bind_bucket", 100, 128)];
        let ends = client_ends(&own, 100);
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

    #[test]
    fn only_caches_of_connections_count() {
        let memory = |slabs: &[(&str, u64)]| KernelMemory {
            slabs: Some(
                slabs
                    .iter()
                    .map(|(name, objects)| {
                        let slab = crate::measure::slab::Slab { objects: *objects, object_bytes: 100, page_bytes: 0 };
                        ((*name).to_owned(), slab)
                    })
                    .collect(),
            ),
            ..KernelMemory::default()
        };
        let list = slab_growth(
            &memory(&[("tw_sock_TCP", 500), ("TCP", 0), ("ext4_inode_cache", 0)]),
            &memory(&[("tw_sock_TCP", 0), ("TCP", 7), ("ext4_inode_cache", 9)]),
        );
        assert_eq!(list.expect("readable").iter().map(|slab| slab.name.as_str()).collect::<Vec<_>>(), ["TCP"]);
    }
}
