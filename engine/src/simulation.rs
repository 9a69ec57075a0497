//! One worker alone, on a kernel of the caller's making and a clock that the caller sets.
//!
//! A [`Worker`] is what runs on each core of an [`Engine`](crate::Engine), without the thread, the ring and
//! the runtime around it: the caller brings a [`Driver`], calls [`Worker::turn`], and whatever happens follows
//! from that and nothing else, neither from time nor from chance. The other cores are [`Neighbour`]s: their
//! ends of the mesh, and no workers. `tests/simulation.rs` is made of this.
//!
//! Only with the feature `simulation`, which is for tests.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};

use crate::clock::Clock;
use crate::coalescing::Coalescing;
use crate::driver::{BufferId, Driver};
use crate::handle::{Command, CoreLink, EngineHandle};
use crate::handler::{Handler, LocalFuture, Publication};
use crate::id::{ConnectionId, CoreId};
use crate::limits::{Limits, RECEIVE_BUFFER_BYTES};
use crate::memory::CoreMemory;
use crate::mesh::{self, Capacity, MeshError, Port};
use crate::message::Message;
use crate::peers::ProxyProtocol;
use crate::protocol::Opcode;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::append_frame;
use crate::stats::CoreStats;
use crate::topics::{Interest, InterestCounts, TopicHash};
use crate::worker::{self, Batch, WorkerParts};

pub use crate::worker::Census;

/// What a simulated kernel keeps for a connection, in bytes.
pub const KERNEL_CONNECTION_BYTES: u64 = 4000;

/// What a simulated worker is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The bounds.
    pub limits: Limits,
    /// Whether handlers may ask for the addresses of peers.
    pub peer_addresses: bool,
    /// Whether connections begin with a proxy's header.
    pub proxy_protocol: ProxyProtocol,
    /// Whether and how messages are compressed.
    pub compression: Option<Compression>,
    /// Whether and how messages are joined for connections that ask for it.
    pub coalescing: Option<Coalescing>,
    /// Connections that the worker may hold.
    pub connections_max: u32,
    /// Cores, the worker's own among them, which is core 0.
    pub cores: usize,
    /// Commands that may wait for each core.
    pub inbox_commands: usize,
    /// The bounds of what may lie between two cores.
    pub mesh: Capacity,
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do: take another turn.
    Busy,
    /// Nothing to do until the kernel, another core or a thread says so.
    Idle,
    /// The drain is complete: no turn may follow.
    Ended,
}

impl From<worker::Progress> for Turn {
    fn from(progress: worker::Progress) -> Self {
        match progress {
            worker::Progress::Busy => Self::Busy,
            worker::Progress::Idle => Self::Idle,
            worker::Progress::Ended => Self::Ended,
        }
    }
}

/// Core 0 of an engine.
pub struct Worker<D: Driver, H: Handler> {
    worker: worker::Worker<D, H>,
    handle: EngineHandle,
    interest: Arc<Interest>,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// A worker on `driver`, whose clock shows what `time` is set to, and the other cores.
    ///
    /// # Errors
    /// There are no descriptors for the doorbells of the mesh.
    ///
    /// # Panics
    /// If there is no core.
    pub fn new(
        setup: Setup,
        driver: D,
        handler: H,
        time: &Rc<Cell<Duration>>,
    ) -> Result<(Self, Vec<Neighbour>), MeshError> {
        let Setup {
            limits,
            peer_addresses,
            proxy_protocol,
            compression,
            coalescing,
            connections_max,
            cores,
            inbox_commands,
            mesh: capacity,
        } = setup;
        let ports = mesh::build::<Batch>(cores, capacity)?;
        let interest = Arc::new(Interest::with_hash(cores, TopicHash::fixed()));
        let mut links = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..cores {
            let (sender, receiver) = bounded(inbox_commands);
            let stats = Arc::new(CoreStats::default());
            let memory = Arc::new(CoreMemory::default());
            links.push(CoreLink { commands: sender, stats: Arc::clone(&stats), memory: Arc::clone(&memory) });
            inboxes.push((receiver, stats, memory));
        }
        let handle = EngineHandle::new(links, Vec::new(), Arc::clone(ports[0].doorbells()), Arc::clone(&interest));
        let mut each = ports.into_iter().zip(inboxes);
        let (port, (commands, stats, memory)) = each.next().expect("a mesh has at least one core");
        let neighbours = each
            .map(|(port, (commands, ..))| {
                let counts = InterestCounts::new(Arc::clone(&interest), port.core());
                Neighbour { port, commands, counts, batch: Batch::new() }
            })
            .collect();
        let memory_share = limits.memory_budget_bytes.unwrap_or(u64::MAX) / cores as u64;
        let parts = WorkerParts {
            core: CoreId(0),
            driver,
            handler,
            limits,
            peer_addresses,
            proxy_protocol,
            compression,
            coalescing,
            connections_max,
            handle: handle.clone(),
            commands,
            port,
            interest: Arc::clone(&interest),
            stats,
            memory,
            memory_share,
            kernel_connection_bytes: KERNEL_CONNECTION_BYTES,
            clock: Clock::set_by(time),
        };
        Ok((Self { worker: worker::Worker::new(parts), handle, interest }, neighbours))
    }

    /// Takes one turn.
    ///
    /// # Errors
    /// The driver's [`enter`](Driver::enter) has failed: no turn may follow.
    pub fn turn(&mut self) -> io::Result<Turn> {
        self.worker.turn().map(Turn::from)
    }

    /// What a host asks after it has said that it will sleep: whether there is something to do after all.
    pub fn progress(&mut self) -> Turn {
        self.worker.progress().into()
    }

    /// The way to the worker that its handlers and other threads have.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// Whether a core may have subscribers of a topic.
    #[must_use]
    pub fn is_interested(&self, core: CoreId, topic: &str) -> bool {
        self.interest.cores_interested(self.interest.hash(topic)).any(|interested| interested == core)
    }

    /// Futures that handlers have spawned since the last call.
    pub fn spawned(&mut self) -> impl Iterator<Item = LocalFuture> + '_ {
        self.worker.spawned()
    }

    /// Counts what the worker holds.
    pub fn census(&mut self) -> Census {
        self.worker.census()
    }
}

/// What crosses between cores and is not bookkeeping. Frames are whole and encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// For the subscribers of a topic on the receiving core.
    Publish {
        /// The topic's name.
        topic: Arc<str>,
        /// The frame.
        frame: Bytes,
    },
    /// For every open connection of the receiving core.
    Broadcast(Bytes),
    /// For one connection of the receiving core.
    Send {
        /// Which.
        to: ConnectionId,
        /// The frame.
        frame: Bytes,
    },
}

/// Another core: its end of the mesh.
pub struct Neighbour {
    port: Port<Batch>,
    commands: Receiver<Command>,
    counts: InterestCounts,
    batch: Batch,
}

impl Neighbour {
    /// Which core it is.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.port.core()
    }

    /// Has got its first subscriber of a topic.
    pub fn subscribe(&mut self, topic: &str) {
        let hash = self.counts.interest().hash(topic);
        self.counts.raise(hash);
    }

    /// Has lost its last subscriber of a topic.
    pub fn unsubscribe(&mut self, topic: &str) {
        let hash = self.counts.interest().hash(topic);
        self.counts.lower(hash);
    }

    /// Publishes to the worker's subscribers of a topic, when [`Self::end_turn`] is called. Whether there are
    /// any is not asked for: a core that looked may have seen some that have gone since.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>, publication: Publication) {
        let hash = self.counts.interest().hash(topic);
        self.batch.push(Command::Publish { topic: topic.into(), hash, frame: encode(message.into()), publication });
    }

    /// Sends to every open connection of the worker, when [`Self::end_turn`] is called.
    pub fn broadcast<'m>(&mut self, message: impl Into<Message<'m>>) {
        self.batch.push(Command::Broadcast { frame: encode(message.into()), except: None });
    }

    /// Sends to one connection of the worker, when [`Self::end_turn`] is called.
    pub fn send<'m>(&mut self, to: ConnectionId, message: impl Into<Message<'m>>) {
        self.batch.push(Command::Send { to, frame: encode(message.into()) });
    }

    /// Sends the turn's batch. False if it was refused, because lane and backlog are full: then all of it is
    /// lost.
    pub fn end_turn(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        let sent = batch.is_empty() || self.port.send(CoreId(0), batch).is_ok();
        self.port.flush_backlog();
        self.port.ring_doorbells();
        sent
    }

    /// Batches that wait here for room in the lane to the worker: the last ones that were sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.port.backlog_len()
    }

    /// Takes one of the worker's batches from the lane.
    pub fn receive(&mut self) -> Option<Vec<Parcel>> {
        let (_, batch) = self.port.receive()?;
        self.port.ring_doorbells();
        Some(batch.into_iter().filter_map(parcel).collect())
    }

    /// Takes what was asked of this core by way of an [`EngineHandle`].
    pub fn take_commands(&mut self) -> Vec<Parcel> {
        self.commands.try_iter().filter_map(parcel).collect()
    }
}

fn parcel(command: Command) -> Option<Parcel> {
    match command {
        Command::Publish { topic, frame, .. } => Some(Parcel::Publish { topic, frame }),
        Command::Broadcast { frame, .. } => Some(Parcel::Broadcast(frame)),
        Command::Send { to, frame } => Some(Parcel::Send { to, frame }),
        Command::Close { .. }
        | Command::Terminate { .. }
        | Command::Tell { .. }
        | Command::TellCore { .. }
        | Command::Survey { .. }
        | Command::Drain(_) => None,
    }
}

fn encode(message: Message<'_>) -> Bytes {
    let mut frame = Vec::new();
    append_frame(&mut frame, Opcode::from(message.kind()), message.payload());
    frame.into()
}

/// Receive buffers for a driver that has none of the kernel's. Nobody else can make a [`BufferId`].
#[derive(Debug)]
pub struct Buffers {
    memory: Vec<Box<[u8]>>,
    free: Vec<u16>,
}

impl Buffers {
    /// So many buffers of [`RECEIVE_BUFFER_BYTES`].
    #[must_use]
    pub fn new(count: u16) -> Self {
        let memory = (0..count).map(|_| vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice()).collect();
        Self { memory, free: (0..count).collect() }
    }

    /// Takes a buffer out of the pool, the one that came back last.
    pub fn take(&mut self) -> Option<BufferId> {
        self.free.pop().map(BufferId)
    }

    /// Puts a buffer back.
    ///
    /// # Panics
    /// If it lies in the pool: then two have held it.
    pub fn release(&mut self, buffer: BufferId) {
        assert!(!self.free.contains(&buffer.0), "{buffer:?} is released twice");
        self.free.push(buffer.0);
    }

    /// The bytes of a buffer that has been taken.
    ///
    /// # Panics
    /// If it lies in the pool.
    pub fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        assert!(!self.free.contains(&buffer.0), "{buffer:?} is nobody's");
        &mut self.memory[usize::from(buffer.0)]
    }

    /// Buffers in the pool.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// All buffers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.memory.len()
    }
}
