//! What a client's own end of a connection costs in kernel memory, and whether the machine is quiet enough to say.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crore_engine::driver::{Driver, Socket, Token};
use crore_engine::uring::{DescriptorSetting, Ring, RingConfig, SetupError, probe};

use super::ScenarioError;
use crate::cli::MemoryOptions;
use crate::client::{ClientError, Target};
use crate::measure::slab::{Aliases, KernelMemory, SlabGrowth, SocketCounts, growth};

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

/// Growth of those caches; `None` where `/proc/slabinfo` can't be read.
pub(super) fn slab_growth(before: &KernelMemory, after: &KernelMemory, aliases: &Aliases) -> Option<Vec<SlabGrowth>> {
    let mut list = growth(before.slabs.as_ref()?, after.slabs.as_ref()?);
    list.retain(|slab| CONNECTION_SLABS.iter().any(|prefix| aliases.has(&slab.name, prefix)));
    Some(list)
}

/// Sockets that came or went beside both ends of `connections`.
pub(super) fn foreign(before: &SocketCounts, after: &SocketCounts, connections: u32) -> u64 {
    let ours = before.allocated + 2 * u64::from(connections);
    ours.abs_diff(after.allocated) + before.time_wait.abs_diff(after.time_wait)
}

/// More than two in a hundred connections move a figure by more than what is worth comparing.
pub(super) fn is_disturbed(foreign_sockets: u64, connections: u32) -> bool {
    foreign_sockets > u64::from(connections / 50).max(50)
}

/// What one end of the client's costs, by cache, in bytes. `None` if that can't be known here, or not for all the
/// sockets that other programs open and close.
pub(super) fn calibrate(
    options: &MemoryOptions,
    descriptors: DescriptorSetting,
    aliases: &Aliases,
) -> Result<Option<BTreeMap<String, f64>>, ScenarioError> {
    let connections = options.calibration;
    for _ in 0..CALIBRATIONS_MAX {
        wait_until_sockets_rest(connections, options.patience)?;
        let before = KernelMemory::read()?;
        if connections == 0 || before.slabs.is_none() {
            return Ok(None);
        }
        // A ring is only gone with the thread that registered it, and its sockets with it.
        let after = std::thread::scope(|scope| {
            let holder = scope.spawn(|| -> Result<KernelMemory, ScenarioError> {
                let _ends = Ends::hold(connections, descriptors)?;
                std::thread::sleep(SETTLE);
                Ok(KernelMemory::read()?)
            });
            holder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        if !is_disturbed(foreign(&before.tcp, &after.tcp, connections), connections) {
            let list = slab_growth(&before, &after, aliases).unwrap_or_default();
            return Ok(Some(client_ends(&list, connections, aliases)));
        }
    }
    Ok(None)
}

/// Calibrations that may be disturbed before it is given up.
const CALIBRATIONS_MAX: u32 = 3;

/// Half of the growth; of the buckets of bound ports all of it.
fn client_ends(slabs: &[SlabGrowth], connections: u32, aliases: &Aliases) -> BTreeMap<String, f64> {
    slabs
        .iter()
        .map(|slab| {
            let ends = if aliases.has(&slab.name, "tcp_bind") { 1.0 } else { 2.0 };
            (slab.name.clone(), slab.bytes as f64 / ends / f64::from(connections))
        })
        .collect()
}

/// Waits until the kernel frees no more sockets of an earlier round, of the calibration, or in TIME_WAIT: it does so
/// on its own time, and would do so in the middle of the measurement. After `patience` the machine has other work.
pub(super) fn wait_until_sockets_rest(connections: u32, patience: Duration) -> Result<(), ScenarioError> {
    let look = || -> Result<_, ScenarioError> {
        let objects = KernelMemory::read()?.slabs.and_then(|slabs| slabs.get("TCP").map(|slab| slab.objects));
        Ok((SocketCounts::read()?, objects))
    };
    let (mut last, mut same) = (look()?, 0);
    let begin = Instant::now();
    while same < REST_LOOKS && begin.elapsed() < patience {
        std::thread::sleep(SETTLE);
        let now = look()?;
        let rests = now == last && !is_disturbed(now.0.time_wait, connections);
        same = if rests { same + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

/// Looks without a change after which sockets are at rest.
const REST_LOOKS: u32 = 3;

/// The kernel frees and moves some objects a moment later.
const SETTLE: Duration = Duration::from_millis(200);

/// Connections with both ends here, in the state in which a [`Client`] holds its own.
struct Ends {
    ring: Ring,
    sockets: Vec<Socket>,
    _wake: std::os::fd::OwnedFd,
}

impl Drop for Ends {
    /// Regular descriptors are the process's: they do not go with the ring.
    fn drop(&mut self) {
        for socket in self.sockets.drain(..) {
            self.ring.close(socket);
        }
        // Only a broken ring refuses, and what it has goes with the process.
        let _ = self.ring.enter();
    }
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
        let mut sockets = Vec::with_capacity(connections as usize * 2);
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
                sockets.push(socket);
                ring.receive_multishot(socket, Token::new(u64::from(socket.0)));
            }
            ring.enter()?;
        }
        Ok(Self { ring, sockets, _wake: wake })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_half_but_for_the_buckets_of_ports() {
        let slab = |name: &str, objects: i64, object_bytes: u64| {
            let bytes = objects * object_bytes.cast_signed();
            SlabGrowth { name: name.into(), objects, object_bytes, bytes, page_bytes: bytes }
        };
        let list = [slab("TCP", 200, 2000), slab("tcp_bind_bucket", 100, 128)];
        let ends = client_ends(&list, 100, &Aliases::default());
        assert_eq!((ends["TCP"], ends["tcp_bind_bucket"]), (2000.0, 128.0));
    }

    #[test]
    fn connections_of_a_calibration_leave_no_descriptor() {
        for descriptors in [DescriptorSetting::Regular, DescriptorSetting::Auto] {
            let open = || std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
            let before = open();
            std::thread::spawn(move || drop(Ends::hold(100, descriptors).expect("there are descriptors")))
                .join()
                .expect("it ends");
            // Other tests have some, too.
            assert!(open() < before + 100, "{before} became {}", open());
        }
    }

    #[test]
    fn sockets_of_others_are_noticed() {
        let counts = |allocated, time_wait| SocketCounts { allocated, time_wait, ..SocketCounts::default() };
        assert_eq!(foreign(&counts(7, 0), &counts(20_007, 0), 10_000), 0);
        assert_eq!(foreign(&counts(7, 300), &counts(20_017, 0), 10_000), 310);
        assert!(!is_disturbed(200, 10_000) && is_disturbed(310, 10_000));
        assert!(!is_disturbed(50, 100) && is_disturbed(51, 100));
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
            &Aliases::default(),
        );
        assert_eq!(list.expect("readable").iter().map(|slab| slab.name.as_str()).collect::<Vec<_>>(), ["TCP"]);
    }
}
