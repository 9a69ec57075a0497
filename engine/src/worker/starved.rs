//! Connections that have something to say while no receive buffer is free for it.
//!
//! A receive that finds the pool empty fails, and has to be asked for again. If everyone who is refused asks at once,
//! a crowd of which the pool serves a few in each turn costs the square of its number. So no more receives are asked
//! for than there are buffers, and the others wait in line.

use std::collections::VecDeque;

use super::Worker;
use super::connection::{Phase, Watch};
use crate::driver::Driver;
use crate::handler::Handler;
use crate::limits::LIST_ENTRIES_KEPT_MAX;

/// Who waits for a buffer, and who is going to need one.
#[derive(Default)]
pub(super) struct Starved {
    /// Slots. None is freed while it is here: its connection is in flight ([`Watch::Starved`]).
    line: VecDeque<u32>,
    /// Receives that are asked for and have not ended, each of which may take a buffer. Multishot ones, which are
    /// armed without anything to say, are not counted: one that finds no buffer comes here.
    receiving: usize,
}

impl Starved {
    /// A receive has ended, with a buffer or without.
    pub(super) const fn note_received(&mut self) {
        self.receiving -= 1;
    }

    /// How many wait.
    #[cfg(feature = "simulation")]
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// Bytes of heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.line.capacity() * size_of::<u32>()
    }

    /// Gives room back that a turn is not going to need.
    pub(super) fn trim(&mut self) {
        self.line.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Receives once: at once, or when a buffer is free and those have theirs who have waited longer.
    pub(super) fn receive(&mut self, slot: u32) {
        if self.connections.at(slot).watch == Watch::Starved {
            return;
        }
        if self.starved.line.is_empty() && self.spare_buffers() > 0 {
            self.receive_now(slot);
        } else {
            self.starve(slot);
        }
    }

    /// Puts a connection in the line for a buffer.
    pub(super) fn starve(&mut self, slot: u32) {
        self.stats.buffers_exhausted += 1;
        self.connections.at(slot).watch = Watch::Starved;
        self.starved.line.push_back(slot);
    }

    /// Lets as many receive as there are buffers now. At the end of the turn, which has given some back.
    pub(super) fn feed_starved(&mut self) {
        if self.starved.line.is_empty() {
            return;
        }
        for _ in 0..self.spare_buffers() {
            let Some(slot) = self.starved.line.pop_front() else { break };
            let connection = self.connections.at(slot);
            connection.watch = Watch::Nothing;
            if connection.phase == Phase::Ended {
                self.ended.push(slot);
            } else if connection.is_paused() {
                // It is watched again when it is resumed.
            } else {
                // Once, whatever it was before: it may have nothing to say any more.
                self.receive_now(slot);
            }
        }
    }

    fn receive_now(&mut self, slot: u32) {
        self.starved.receiving += 1;
        let connection = self.connections.at(slot);
        connection.watch = Watch::Receive;
        self.driver.receive(connection.socket, Self::token(slot));
    }

    /// Buffers that nobody has, and nobody is going to take.
    fn spare_buffers(&self) -> usize {
        self.driver.buffers_free().saturating_sub(self.starved.receiving)
    }
}
