//! What a worker holds for its connections, in bytes: changed where memory is taken and given back, so that the
//! sum is known without a walk.

use crate::driver::Outgoing;
use crate::memory::Memory;
use crate::protocol::assembler::HeapBytes;

/// Bytes by what they are held for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Rare parts of connections.
    pub(super) rare: usize,
    /// Input of a connection that is kept for later.
    pub(super) input: usize,
    /// Outboxes, frames that are shared apart.
    pub(super) outboxes: usize,
    /// Sets of topics of connections.
    pub(super) topics: usize,
    /// Windows of what was sent compressed.
    pub(super) windows: usize,
    /// Sends in flight, frames that are shared and receive buffers apart.
    pub(super) sends: usize,
}

impl Held {
    /// Takes note that one of those who hold something holds `after` now, and `before` no longer.
    pub(super) const fn change(&mut self, before: &Self, after: &Self) {
        self.rare = self.rare + after.rare - before.rare;
        self.input = self.input + after.input - before.input;
        self.outboxes = self.outboxes + after.outboxes - before.outboxes;
        self.topics = self.topics + after.topics - before.topics;
        self.windows = self.windows + after.windows - before.windows;
    }
}

impl Held {
    /// The same by class: what connections hold, without slots and pools.
    pub(super) const fn memory(&self, buffered: HeapBytes) -> Memory {
        Memory {
            slab: self.rare as u64,
            receive_pool: 0,
            partial: (self.input + buffered.partial) as u64,
            outbox: (self.outboxes + self.sends) as u64,
            topics: self.topics as u64,
            deflate: (self.windows + buffered.deflate) as u64,
            session: 0,
            kernel: 0,
        }
    }
}

/// Memory that this output alone refers to.
pub(super) const fn owned_bytes(outgoing: &Outgoing) -> usize {
    match outgoing {
        Outgoing::Owned { bytes, .. } => bytes.capacity(),
        Outgoing::Received { .. } | Outgoing::Shared { .. } => 0,
    }
}
