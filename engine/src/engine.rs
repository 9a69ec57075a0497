//! From a configuration to pinned workers that a mesh joins; start, drain and end.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::capacity::{Bound, HostMemory, Resources, Room, kernel_connection_bytes};
use crate::clock::Clock;
use crate::coalescing::Coalescing;
use crate::handle::{CoreLink, EngineHandle, ListenerLink};
use crate::handler::Handler;
use crate::host;
use crate::id::CoreId;
use crate::limits::{self, Limits};
use crate::memory::CoreMemory;
use crate::mesh::{self, Capacity, MeshError};
use crate::peers::ProxyProtocol;
use crate::protocol::deflate::{Compression, CompressionError};
use crate::stats::CoreStats;
use crate::topics::Interest;
use crate::uring::{DescriptorSetting, Features, Listener, Ring, RingConfig, SetupError, descriptor_limit, probe};
use crate::worker::{Batch, Worker, WorkerParts, connection_bytes};

/// Why an engine did not start, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be read.
    #[error("`{address}` is no address to listen on ({source}): write it like `127.0.0.1:8080` or `[::]:8080`")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The address can't be bound.
    #[error("can't listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not offer what the engine needs.
    #[error(transparent)]
    Kernel(#[from] SetupError),
    /// The cores can't be joined.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// More cores than the engine can name, or none.
    #[error("{0} cores: an engine runs on 1 to {max} of them", max = limits::CORES_MAX)]
    Cores(usize),
    /// A setting of the compression is out of range.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The descriptor limit leaves no room for connections.
    #[error("the descriptor limit of {0} leaves no room for connections: raise it with `ulimit -n` or `LimitNOFILE=`")]
    NoDescriptors(u64),
    /// The memory budget leaves no room for connections.
    #[error(
        "a memory budget of {0} bytes leaves no room for connections: raise `memory_budget`, or the memory limit of the cgroup"
    )]
    NoMemory(u64),
    /// A worker could not go on.
    #[error("core {core} has ended: {source}")]
    Worker {
        /// Whose.
        core: CoreId,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("no thread for core {core}: {source}")]
    Thread {
        /// Whose.
        core: CoreId,
        /// Why.
        source: io::Error,
    },
    /// A handler panicked.
    #[error("the handler on core {0} panicked")]
    Panicked(CoreId),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: end it, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; the address is not one of this host's",
        _ => "",
    }
}

/// How a worker waits when it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKind {
    /// In a `tokio-uring` runtime, so that handlers can spawn futures.
    #[default]
    Runtime,
    /// In `io_uring_enter(2)`, without a runtime: for comparison. Spawned futures never run.
    Bare,
}

/// An engine that has not started: where to listen, and how.
#[derive(Clone, Debug)]
pub struct Engine {
    address: SocketAddr,
    cores: usize,
    first_cpu: usize,
    limits: Limits,
    compression: Option<Compression>,
    coalescing: Option<Coalescing>,
    descriptors: DescriptorSetting,
    peer_addresses: bool,
    proxy_protocol: ProxyProtocol,
    host: HostKind,
    reap: u32,
}

impl Engine {
    /// An engine that will listen on `address`, with a worker for every CPU that the process may run on.
    ///
    /// # Errors
    /// The text is no address.
    pub fn bind(address: impl ToSocketAddrs + ToString) -> Result<Self, Error> {
        let resolved = address.to_socket_addrs().and_then(|mut all| {
            all.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        });
        let address = resolved.map_err(|source| Error::Address { address: address.to_string(), source })?;
        Ok(Self {
            address,
            cores: cpus().len(),
            first_cpu: 0,
            limits: Limits::default(),
            compression: None,
            coalescing: None,
            descriptors: DescriptorSetting::default(),
            peer_addresses: false,
            proxy_protocol: ProxyProtocol::Off,
            host: HostKind::default(),
            reap: 0,
        })
    }

    /// Runs on so many cores: the first ones that the process may run on.
    #[must_use]
    pub const fn cores(mut self, cores: usize) -> Self {
        self.cores = cores;
        self
    }

    /// Leaves out the first `count` CPUs that the process may run on.
    #[must_use]
    pub const fn skip_cpus(mut self, count: usize) -> Self {
        self.first_cpu = count;
        self
    }

    /// Sets the bounds.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Compresses messages for clients that offer permessage-deflate (RFC 7692). `None`, the default,
    /// declines every offer.
    #[must_use]
    pub const fn compression(mut self, compression: Option<Compression>) -> Self {
        self.compression = compression;
        self
    }

    /// Joins messages for connections that ask for it ([`Context::coalesce`](crate::Context::coalesce)). `None`, the
    /// default, joins none. It costs nothing for connections that don't ask.
    #[must_use]
    pub const fn coalescing(mut self, coalescing: Option<Coalescing>) -> Self {
        self.coalescing = coalescing;
        self
    }

    /// Chooses the kind of descriptor.
    #[must_use]
    pub const fn descriptors(mut self, descriptors: DescriptorSetting) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// Whether handlers may ask for the addresses of peers ([`Context::peer_address`](crate::Context::peer_address)).
    /// Off, the default, costs nothing; on costs each connection a `getpeername(2)` where descriptors are regular, and
    /// a request to the ring where they are direct, and nothing any more once it is open.
    #[must_use]
    pub const fn peer_addresses(mut self, wanted: bool) -> Self {
        self.peer_addresses = wanted;
        self
    }

    /// Whether connections come from proxies that say whose they are. What a header says is then the peer's address
    /// ([`Context::peer_address`](crate::Context::peer_address)), beside that of the proxy
    /// ([`Context::proxy`](crate::Context::proxy)); it has to come within [`Limits::handshake_timeout`], with the request.
    #[must_use]
    pub fn proxy_protocol(mut self, proxy_protocol: ProxyProtocol) -> Self {
        self.proxy_protocol = proxy_protocol;
        self
    }

    /// Chooses how workers wait.
    #[must_use]
    pub const fn host(mut self, host: HostKind) -> Self {
        self.host = host;
        self
    }

    /// Completions that one `io_uring_enter(2)` collects when many are there; 0 leaves it to the kernel,
    /// which hands out about 20.
    #[must_use]
    pub const fn reap(mut self, completions: u32) -> Self {
        self.reap = if completions < limits::REAP_MAX { completions } else { limits::REAP_MAX };
        self
    }

    /// Starts the engine; `handler` makes the handler of each core, on the core's own thread.
    ///
    /// # Errors
    /// The address is taken, the kernel refuses, a limit is too low: the error says what to change.
    pub fn start<H: Handler>(self, handler: impl Fn(CoreId) -> H + Send + Sync + 'static) -> Result<Running, Error> {
        if self.cores == 0 || self.cores > limits::CORES_MAX {
            return Err(Error::Cores(self.cores));
        }
        if let Some(compression) = &self.compression {
            compression.check()?;
        }
        // On a thread of its own: while the kernel takes the probe's rings down, system calls of the
        // thread that made them are interrupted.
        let features = thread::scope(|scope| scope.spawn(|| probe(self.descriptors)).join())
            .map_err(|_| Error::Panicked(CoreId(0)))??;
        let root = Path::new("/");
        let resources = Resources {
            cores: self.cores,
            descriptors: features.descriptors,
            descriptor_limit: descriptor_limit(),
            user_connection_bytes: connection_bytes::<H>(),
            kernel_connection_bytes: kernel_connection_bytes(root, self.address.is_ipv6(), features.descriptors),
            memory_bytes: HostMemory::read(root).budget_bytes(),
        };
        let room = resources.room(&self.limits);
        let connections_max = room.connections_per_core_max;
        match room.bound {
            _ if connections_max > 0 => {}
            Bound::Memory => return Err(Error::NoMemory(room.memory_budget_bytes)),
            _ => return Err(Error::NoDescriptors(resources.descriptor_limit)),
        }
        let (address, listeners) = self.listen()?;
        let capacity = Capacity { lane_entries: limits::LANE_ENTRIES, backlog_entries_max: limits::LANE_BACKLOG_MAX };
        let ports = mesh::build::<Batch>(self.cores, capacity)?;
        let interest = Arc::new(Interest::new(self.cores));
        let mut links = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..self.cores {
            let (sender, receiver) = bounded(limits::COMMANDS_MAX);
            let stats = Arc::new(CoreStats::default());
            let memory = Arc::new(CoreMemory::default());
            links.push(CoreLink { commands: sender, stats: Arc::clone(&stats), memory: Arc::clone(&memory) });
            inboxes.push((receiver, stats, memory));
        }
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        let link = |listener| -> ListenerLink { Arc::<Listener>::downgrade(listener) };
        let listener_links = listeners.iter().map(link).collect();
        let handle = EngineHandle::new(links, listener_links, Arc::clone(ports[0].doorbells()), Arc::clone(&interest));
        let memory_share = room.memory_budget_bytes / self.cores as u64;
        let sockets_max = connections_max.saturating_add(limits::SOCKETS_SPARE);
        let ring = RingConfig { reap: self.reap, ..RingConfig::new(features, sockets_max) };
        let mut running = Running { handle: handle.clone(), address, features, room, threads: Vec::new() };
        let mut drain = DrainAtFailure(Some(handle.clone()));
        let (ready, outcome) = bounded(self.cores);
        let handler = Arc::new(handler);
        let cpus = cpus();
        for ((listener, port), (commands, stats, memory)) in listeners.into_iter().zip(ports).zip(inboxes) {
            let core = port.core();
            let cpu = cpus.get(core.index() + self.first_cpu).copied();
            let (handler, ring, limits) = (Arc::clone(&handler), ring.clone(), self.limits.clone());
            let (handle, interest, ready) = (handle.clone(), Arc::clone(&interest), ready.clone());
            let (kind, compression, peer_addresses) = (self.host, self.compression, self.peer_addresses);
            let (proxy_protocol, coalescing) = (self.proxy_protocol.clone(), self.coalescing);
            let work = move || {
                pin(core, cpu);
                let mut driver = match Ring::new(&ring, port.doorbell().fd()) {
                    Ok(driver) => driver,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = ready.send(Ok(()));
                drop(ready);
                driver.listen(listener);
                let doorbells = Arc::clone(port.doorbells());
                let mut drain = DrainAtFailure(Some(handle.clone()));
                let handler = handler(core);
                let parts = WorkerParts {
                    core,
                    driver,
                    handler,
                    limits,
                    peer_addresses,
                    proxy_protocol,
                    compression,
                    coalescing,
                    connections_max,
                    handle,
                    commands,
                    port,
                    interest,
                    stats,
                    memory,
                    memory_share,
                    kernel_connection_bytes: room.kernel_connection_bytes,
                    clock: Clock::start(),
                };
                host::run(kind, Worker::new(parts), &doorbells[core.index()])
                    .map_err(|source| Error::Worker { core, source })?;
                drain.0 = None;
                Ok(())
            };
            let thread = thread::Builder::new()
                .name(format!("crore-{core}"))
                .spawn(work)
                .map_err(|source| Error::Thread { core, source })?;
            running.threads.push((core, thread));
        }
        drop(ready);
        if let Some(error) = outcome.iter().find_map(Result::err) {
            drop(drain);
            running.join()?;
            return Err(error.into());
        }
        drain.0 = None;
        Ok(running)
    }

    /// Starts the engine and waits until it has ended: until somebody drains it through an
    /// [`EngineHandle`].
    ///
    /// # Errors
    /// As [`Self::start`] and [`Running::join`].
    pub fn run<H: Handler>(self, handler: impl Fn(CoreId) -> H + Send + Sync + 'static) -> Result<(), Error> {
        self.start(handler)?.join()
    }

    /// One listener for each core, on the same port.
    fn listen(&self) -> Result<(SocketAddr, Vec<Listener>), Error> {
        let mut address = self.address;
        // SO_REUSEPORT would let a second engine share the port without a word.
        Listener::check_free(address).map_err(|source| Error::Listen { address, source })?;
        let mut listeners = Vec::new();
        for _ in 0..self.cores {
            let listener = Listener::bind(address).map_err(|source| Error::Listen { address, source })?;
            // The kernel has chosen a port for the first one; the others share it.
            address = listener.address();
            listeners.push(listener);
        }
        Ok((address, listeners))
    }
}

/// An engine at work.
#[derive(Debug)]
pub struct Running {
    handle: EngineHandle,
    address: SocketAddr,
    features: Features,
    room: Room,
    threads: Vec<(CoreId, JoinHandle<Result<(), Error>>)>,
}

impl Running {
    /// The way to the engine, for any thread.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the kernel offers.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// How many connections there is room for, and what keeps it from more.
    #[must_use]
    pub const fn room(&self) -> Room {
        self.room
    }

    /// Waits until every worker has ended.
    ///
    /// # Errors
    /// A worker has failed, or a handler has panicked. The other workers are drained.
    pub fn join(self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (core, thread) in self.threads {
            outcome = outcome.and(thread.join().unwrap_or(Err(Error::Panicked(core))));
        }
        outcome
    }
}

/// Drains the engine when it is dropped before its time: a core that fails, or whose handler panics, takes
/// the others with it, for none of them would take over its connections.
struct DrainAtFailure(Option<EngineHandle>);

impl Drop for DrainAtFailure {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.drain(Duration::ZERO);
        }
    }
}

/// The CPUs that the process may run on.
#[must_use]
pub fn cpus() -> Vec<core_affinity::CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Pins the calling thread. More workers than CPUs are left to the scheduler.
fn pin(core: CoreId, cpu: Option<core_affinity::CoreId>) {
    match cpu {
        Some(cpu) if core_affinity::set_for_current(cpu) => {}
        Some(cpu) => tracing::warn!(%core, cpu = cpu.id, "could not be pinned to its CPU"),
        None => tracing::warn!(%core, "has no CPU of its own: there are more cores in the configuration than CPUs"),
    }
}
