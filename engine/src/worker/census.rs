//! What a worker holds, counted: for a simulation, which wants all of it back.

use super::Worker;
use super::connection::{NONE, Phase};
use super::held::Held;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::memory::Memory;
use crate::protocol::assembler::HeapBytes;

/// What a worker holds at one moment, between two turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Slots in use.
    pub connections: usize,
    /// Connections that are upgraded and have not begun to end.
    pub open: usize,
    /// Connections whose input is not asked for because they do not read.
    pub paused: usize,
    /// Connections that have more than the slot itself.
    pub with_rare: usize,
    /// Connections for whom messages are joined that have not left.
    pub joined: usize,
    /// Bytes of input that are kept for later: heads that have come in part, and what came during a pause.
    pub input_bytes: usize,
    /// Bytes that wait in outboxes.
    pub outbox_bytes: usize,
    /// Bytes of heap that decoders keep for messages and frames that have come in part.
    pub partial_bytes: usize,
    /// Bytes that connections hold by the worker's own count.
    pub held: Memory,
    /// The same by a walk over the connections. It does not see output on its way, of which there is none at rest.
    pub walked: Memory,
    /// Topics that have a subscriber.
    pub topics: usize,
    /// Addresses of peers that are kept for handlers to ask for.
    pub peer_addresses: usize,
    /// Whether any deadline is set.
    pub deadlines: bool,
    /// Output, held input and ended connections that wait for the next turn: none if the worker is idle.
    pub left_behind: usize,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Counts what the worker holds.
    pub(crate) fn census(&mut self) -> Census {
        let mut census = Census {
            connections: self.connections.len(),
            topics: self.topics.len(),
            peer_addresses: self.peers.len(),
            deadlines: !self.timers.is_empty(),
            left_behind: self.corks.list.len()
                + self.too_slow.len()
                + self.closings.len()
                + self.ended.len()
                + self.resumed.len()
                + self.starved.len()
                + self.batches.iter().map(Vec::len).sum::<usize>(),
            ..Census::default()
        };
        census.held = self.held.memory(self.partials.held());
        census.held.outbox += self.corks.shared_bytes() as u64;
        let (mut walked, mut buffered) = (Held::default(), HeapBytes::default());
        for slot in self.connections.slots() {
            let connection = self.connections.at(slot);
            census.open += usize::from(connection.phase == Phase::Open);
            census.paused += usize::from(connection.is_paused());
            census.joined += usize::from(connection.joined().is_some());
            census.with_rare += usize::from(connection.rare().is_some());
            census.input_bytes += connection.rare().map_or(0, |rare| rare.head.len() + rare.input.len());
            census.outbox_bytes += connection.outbox_bytes();
            census.partial_bytes += connection.decoder.buffered_bytes();
            walked.change(&Held::default(), &connection.rare().map_or_else(Held::default, |rare| rare.held()));
            let bytes = connection.decoder.heap_bytes();
            buffered =
                HeapBytes { partial: buffered.partial + bytes.partial, deflate: buffered.deflate + bytes.deflate };
            census.left_behind += usize::from(connection.cork != NONE);
            census.left_behind += usize::from(connection.apart != connection.coalesces);
        }
        census.walked = walked.memory(buffered);
        census
    }
}
