//! One core's work: connections, timers, topics, and the turn that moves bytes through them.
//!
//! ```text
//! event_loop   one turn, in data-flow order
//!   proxied      the header of a proxy, where there is one, before all else
//!   inbound      completions of receives ─► upgrade (the handshake) or messages ─► Handler
//!   apply        the actions of a handler, the commands of other cores and threads
//!   broadcast    what a turn publishes to a topic, joined, one send for each subscriber
//!   variants     what is sent compressed: once for all receivers with the same window
//!   corks        what a turn has for a connection, joined
//!   coalesce     messages that are joined over several turns, for those who ask for it
//!   outbox       what waits for a slow one, within bounds
//!   slow         what is stored and follows, and the end of who is too slow
//!   label        the policies of topics for what has to wait
//!   lossy        what may be dropped of an outbox, and what is missing
//!   pause        input of a connection that does not read what it causes
//!   starved      input that has to wait for a receive buffer
//!   heartbeat    deadlines: handshake, ping, pong, close
//!   wakes        times that the handler has asked for
//!   pace         who is turned away when too many come at once
//!   budget       who is turned away or closed when too much is held
//!   survey       who is there, for whoever asks
//!   drain        the end: everyone is closed, at once or spread over a time
//!   memory       what is held, by class; what is given back when it is not needed
//!   ending       every way in which a connection ends, and the one place where its slot is freed
//! ```
//!
//! A worker knows the kernel only as a [`Driver`] and never waits: its host does, between turns.

mod apply;
mod broadcast;
mod budget;
#[cfg(feature = "simulation")]
mod census;
mod coalesce;
mod connection;
mod connections;
mod corks;
mod drain;
mod ending;
mod event_loop;
mod heartbeat;
mod held;
mod inbound;
mod label;
mod leaving;
mod lossy;
mod memory;
mod outbox;
mod pace;
mod pause;
mod proxied;
mod slow;
mod starved;
mod survey;
mod timers;
mod upgrade;
mod variants;
mod wakes;

use std::sync::Arc;

use crossbeam_channel::Receiver;

use self::broadcast::Broadcasts;
use self::budget::Budget;
use self::coalesce::Coalescer;
use self::connection::subscriptions;
use self::connections::Connections;
use self::corks::Corks;
use self::drain::Draining;
use self::heartbeat::CancelBudget;
use self::held::Held;
use self::leaving::Leaving;
use self::memory::Trims;
use self::pace::Pace;
use self::starved::Starved;
use self::timers::{Expired, Timers};
use self::variants::Deflating;
use self::wakes::Wakes;
use crate::clock::Clock;
use crate::coalescing::Coalescing;
use crate::driver::Driver;
use crate::handle::{Command, EngineHandle};
use crate::handler::{Actions, Context, CoreContext, Handler, LocalFuture};
use crate::id::{ConnectionId, CoreId};
use crate::limits::{Limits, SlowConsumer};
use crate::memory::CoreMemory;
use crate::mesh::Port;
use crate::peers::{Peers, ProxyProtocol};
use crate::protocol::deflate::{Compression, DeflateAgreement};
use crate::protocol::{DecoderConfig, PartialPool, Role};
use crate::stats::{CoreStats, Stats};
use crate::topics::{Interest, InterestCounts, Topics};

#[cfg(feature = "simulation")]
pub use census::Census;
pub(crate) use event_loop::Progress;

/// What a handler sees of a connection. Put together from single fields, since what it is told about borrows
/// others of them.
macro_rules! context {
    ($worker:ident, $id:ident, $connection:ident, $outbox_bytes:ident) => {
        Context {
            core: CoreContext {
                core: $worker.core,
                now: $worker.clock.now(),
                handle: &$worker.handle,
                topics: &$worker.topics,
                actions: &mut $worker.actions,
            },
            id: $id,
            subscriptions: subscriptions($connection.topic, $connection.rare.get(), &$worker.topics),
            outbox_bytes: $outbox_bytes,
            held: $connection.rare.get().map(|rare| rare as &dyn crate::memory::Holds),
            limits: &$worker.limits,
            peers: &$worker.peers,
        }
    };
}
use context;

/// What one core sends to another: everything of one turn.
pub(crate) type Batch = Vec<Command>;

/// Bytes that an engine keeps for a connection which does nothing, the handler's state of it included.
#[must_use]
pub const fn connection_bytes<H: Handler>() -> u64 {
    (connections::slot_bytes::<H::Connection>() + timers::NODE_BYTES) as u64
}

/// What a worker is given at its start.
pub(crate) struct WorkerParts<D, H> {
    pub(crate) core: CoreId,
    pub(crate) driver: D,
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    /// Handlers may ask for the addresses of peers.
    pub(crate) peer_addresses: bool,
    /// Whether connections begin with a proxy's header; then addresses are asked for in any case.
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) compression: Option<Compression>,
    pub(crate) coalescing: Option<Coalescing>,
    pub(crate) connections_max: u32,
    pub(crate) handle: EngineHandle,
    pub(crate) commands: Receiver<Command>,
    pub(crate) port: Port<Batch>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) memory: Arc<CoreMemory>,
    /// Bytes that the core may hold.
    pub(crate) memory_share: u64,
    /// About what the kernel keeps for a connection, in bytes.
    pub(crate) kernel_connection_bytes: u64,
    pub(crate) clock: Clock,
}

/// One core.
pub(crate) struct Worker<D: Driver, H: Handler> {
    core: CoreId,
    driver: D,
    handler: H,
    limits: Limits,
    decoding: DecoderConfig,
    deflating: Option<Deflating>,
    handle: EngineHandle,

    connections: Connections<H::Connection>,
    partials: PartialPool,
    timers: Timers,
    wakes: Wakes,
    peer_addresses: bool,
    proxy_protocol: ProxyProtocol,
    peers: Peers,
    topics: Topics,
    interest: Arc<Interest>,
    interest_counts: InterestCounts,

    actions: Actions,
    corks: Corks,
    broadcasts: Broadcasts,
    coalescer: Coalescer,
    spawned: Vec<LocalFuture>,
    /// Connections that are no longer paused but for input that came while they were.
    resumed: Vec<u32>,
    /// Connections whose outboxes have overflowed while the turn's output was stored.
    too_slow: Vec<u32>,
    /// Connections that this side has begun to close; the handler hears of it before the turn's output leaves.
    closings: Vec<u32>,
    /// Connections that are over; freed at the end of the turn, so that a slot is good throughout it.
    ended: Vec<u32>,
    /// Connections whose peers have gone.
    leaving: Leaving,
    starved: Starved,
    held: Held,

    commands: Receiver<Command>,
    port: Port<Batch>,
    /// What this turn has for each other core, and what the handler tells its own.
    batches: Vec<Batch>,
    /// Of what it has told its own, what has been taken out of there and is not done yet.
    own_taken: usize,

    clock: Clock,
    ticking: bool,
    expired: Vec<Expired>,
    cancels: CancelBudget,
    /// The accept has failed and is armed again with the next tick.
    accept_later: bool,
    draining: Option<Draining>,
    stats: Stats,
    shared_stats: Arc<CoreStats>,
    trims: Trims,
    budget: Budget,
    pace: Option<Pace>,
    kernel_connection_bytes: u64,
    shared_memory: Arc<CoreMemory>,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// A worker whose listener is accepting from the first turn on.
    pub(crate) fn new(parts: WorkerParts<D, H>) -> Self {
        let WorkerParts {
            core,
            mut driver,
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
            kernel_connection_bytes,
            clock,
        } = parts;
        driver.accept();
        // What was compressed with the window of another message can't be dropped without that one's
        // receiver losing its place: where messages may be dropped, none refers to another.
        let keeps_all = limits.slow_consumer == SlowConsumer::Disconnect;
        let deflating = compression.map(|compression| {
            let server_context_takeover = compression.server_context_takeover && keeps_all;
            Deflating::new(Compression { server_context_takeover, ..compression })
        });
        let pace = limits.upgrades_per_second_max.map(|most| Pace::new(most, handle.cores()));
        Self {
            core,
            driver,
            handler,
            decoding: DecoderConfig {
                role: Role::Server,
                message_bytes_max: limits.message_bytes_max,
                pieces_bytes_max: limits.pieces_bytes_max,
                fragments_max: limits.fragments_max,
                deflate: DeflateAgreement::NONE,
            },
            deflating,
            limits,
            connections: Connections::new(core, connections_max),
            partials: PartialPool::new(),
            timers: Timers::new(connections_max),
            wakes: Wakes::new(connections_max),
            peer_addresses: peer_addresses || matches!(proxy_protocol, ProxyProtocol::Required(_)),
            proxy_protocol,
            peers: Peers::default(),
            topics: Topics::new(interest.topic_hash()),
            interest_counts: InterestCounts::new(Arc::clone(&interest), core),
            interest,
            actions: Actions::default(),
            corks: Corks::default(),
            broadcasts: Broadcasts::default(),
            coalescer: Coalescer::new(coalescing),
            spawned: Vec::new(),
            resumed: Vec::new(),
            too_slow: Vec::new(),
            closings: Vec::new(),
            ended: Vec::new(),
            leaving: Leaving::default(),
            starved: Starved::default(),
            held: Held::default(),
            commands,
            batches: (0..handle.cores()).map(|_| Batch::new()).collect(),
            own_taken: 0,
            port,
            handle,
            clock,
            ticking: false,
            expired: Vec::new(),
            cancels: CancelBudget::default(),
            accept_later: false,
            draining: None,
            stats: Stats::default(),
            shared_stats: stats,
            trims: Trims::default(),
            budget: Budget::new(memory_share),
            pace,
            kernel_connection_bytes,
            shared_memory: memory,
        }
    }

    /// The kernel's side, for the host.
    pub(crate) const fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// Futures that handlers have spawned since the last call, for the host's runtime.
    pub(crate) fn spawned(&mut self) -> impl Iterator<Item = LocalFuture> + '_ {
        self.spawned.drain(..)
    }

    /// Calls the handler for the connection in `slot` and applies what it asks for.
    fn call(&mut self, slot: u32, call: impl FnOnce(&mut H, &mut Context<'_>, &mut H::Connection)) {
        self.ask(slot, call);
        self.apply(slot, None);
    }

    /// Calls the handler for the connection in `slot`. What it asks for is still to be applied.
    fn ask<R>(&mut self, slot: u32, ask: impl FnOnce(&mut H, &mut Context<'_>, &mut H::Connection) -> R) -> R {
        let id = self.connections.id_at(slot);
        let connection = self.connections.at(slot);
        let outbox_bytes = connection.outbox_bytes();
        self.actions.set_current(None);
        let mut context = context!(self, id, connection, outbox_bytes);
        ask(&mut self.handler, &mut context, &mut connection.state)
    }

    /// The slot of the connection with this identifier if it is open.
    fn open_slot(&mut self, id: ConnectionId) -> Option<u32> {
        let slot = self.connections.slot_of(id)?;
        (self.connections.at(slot).phase == connection::Phase::Open).then_some(slot)
    }
}

impl<D: Driver, H: Handler> Drop for Worker<D, H> {
    /// A worker that an error or a panic has ended leaves no socket open. After a drain there is none.
    fn drop(&mut self) {
        for slot in self.connections.slots() {
            self.driver.close(self.connections.at(slot).socket);
        }
        // What fails now has nobody to go to.
        let _ = self.driver.enter();
    }
}
