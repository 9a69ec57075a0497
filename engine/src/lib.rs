//! Crore's connection engine: WebSockets by the million on one Linux host, over io_uring.
//!
//! ```text
//!            kernel ── uring ── protocol ── worker ── Handler (your code)
//! bytes in  ──────────────►  frames ─► messages ─────►│
//!                                                     │ writes actions: send, subscribe, publish, close …
//! bytes out ◄── uring ◄── outbox ◄── topics ◄── mesh ◄┘   (mesh only when another core has subscribers)
//! ```
//!
//! An [`Engine`] runs one worker on each core, pinned. A worker owns, alone: a `tokio-uring` runtime,
//! a data ring, a listener (`SO_REUSEPORT`), a slab of connections, a pool of receive buffers, a table
//! of topics, a timer wheel, an inbox. Nothing on the hot path is shared or locked; workers meet only
//! in the mesh. A [`Handler`] is the application on one core; what it asks for through its [`Context`]
//! is applied when it has returned. An [`EngineHandle`] reaches the engine from any thread.
//!
//! ```no_run
//! use crore_engine::{Context, Engine, Handler, Message};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Connection = ();
//!
//!     fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
//!         context.send(message);
//!     }
//! }
//!
//! fn main() -> Result<(), crore_engine::Error> {
//!     Engine::bind("127.0.0.1:9001")?.run(|_core| Echo)
//! }
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | core | a worker and the CPU that it is pinned to |
//! | turn | one round of a worker: submit, collect, handle, flush |
//! | *uring* | io_uring, and the layer that speaks to it |
//! | piece | a part of a message that is taken as it comes, and not kept until the message is whole |
//! | topic | a name that connections subscribe to, and messages are published to |
//! | cork | what one turn has for one connection, joined into one send |
//! | outbox | what waits for a connection that is still sending |
//! | gap | a place in what a connection is sent where messages were dropped |
//! | to coalesce | to join messages for one connection, over several turns, to one message |
//! | to conflate | to let a newer message of the same key take the place of one that waits |
//! | lane | a bounded queue from one core to another |
//! | doorbell | an eventfd that wakes a parked core |
//! | context takeover | a compressed message may refer to earlier ones of its connection |
//! | notice | what a connection or a core is told by another one, or by a thread |
//! | wake | a call of the handler at a time that it has asked for |
//! | starved | has something to say, and waits for a receive buffer |
//! | hot | a connection with a multishot receive armed; the others have a one-shot poll |
//!
//! # Layers
//!
//! | module | may import |
//! |---|---|
//! | `clock` `coalescing` `driver` `free_list` `id` `limits` `memory` `message` `peers` `stats` `survey` | each other |
//! | `handler` `handle` | those, and the types of `protocol`, `mesh` and `topics` that are part of the contract |
//! | `protocol` `mesh` `topics` | `limits` `id` `message` `free_list` |
//! | `uring` | `limits` `id` `driver` |
//! | `capacity` | `limits` `uring` |
//! | `worker` | every module but `uring`, which it sees only as [`driver::Driver`] |
//! | `engine` `host` `simulation` | everything: they put the parts together |
//!
//! A message is encoded once, where it is sent from; so `handler` and `handle`, which belong to the
//! foundation, know the frame encoder, and a request head is shown to a handler as the protocol's own
//! [`protocol::http::Request`].

mod capacity;
pub mod clock;
mod coalescing;
pub mod driver;
mod engine;
mod free_list;
mod handle;
mod handler;
mod host;
pub mod id;
pub mod limits;
mod memory;
pub mod mesh;
pub mod message;
mod peers;
pub mod protocol;
#[cfg(feature = "simulation")]
pub mod simulation;
mod stats;
mod survey;
pub mod topics;
pub mod uring;
mod worker;

pub use capacity::{Bound, HostMemory, Resources, Room, kernel_connection_bytes};
pub use coalescing::Coalescing;
pub use engine::{Engine, Error, HostKind, Running, cpus};
pub use handle::{Drain, EngineHandle, Overloaded, Untold};
pub use handler::{
    Answer, CloseCause, Closed, Closing, Context, CoreContext, Delivery, Gap, Handler, LocalFuture, Notice, Overflow,
    Publication, Response, SubscribeError,
};
pub use id::{ConnectionId, CoreId};
pub use limits::{Limits, SlowConsumer};
pub use memory::Memory;
pub use message::{Message, MessageKind, MessageStart, OwnedMessage, Piece};
pub use peers::{Proxy, ProxyProtocol, TrustedPeers};
pub use protocol::deflate::{Compression, CompressionError};
pub use protocol::http::Request;
pub use stats::Stats;
pub use survey::{Survey, Surveyed};
pub use uring::DescriptorSetting;
pub use worker::connection_bytes;

/// The first program that a newcomer meets is one that compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
