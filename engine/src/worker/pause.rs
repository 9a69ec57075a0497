//! Input of a connection that does not read what it causes: it is not asked for, and what the kernel had
//! received before it heard of that is held, so that nothing is dropped of a peer's own making.
//!
//! ```text
//! outbox half full ──► paused: no poll, no receive; a multishot receive is cancelled, what it still brings is held
//! outbox empty     ──► resumed: what is held is handled, piece by piece, and then the kernel is asked for more
//! end of stream    ──► seen when all that is held has been handled: a peer that has said all may still be reading
//! ```
//!
//! The application may pause a connection, too, and resume it; then nothing is handled until both agree.
//!
//! What is held is bounded by what a multishot receive delivers until the next time that the kernel is
//! entered, and so by the pool of buffers. Compressed input is held as it came: it is decompressed when there is
//! room for what it causes.

use std::ops::Range;

use bytes::BytesMut;

use super::Worker;
use super::connection::{NONE, Phase, Watch};
use super::inbound::Source;
use super::outbox::half_full;
use crate::driver::{BufferId, Driver};
use crate::handler::Handler;
use crate::limits::RECEIVE_BUFFER_BYTES;

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Whether more input would cause output for which there is no room.
    pub(super) fn is_behind(&mut self, slot: u32) -> bool {
        let connection = self.connections.at(slot);
        let joined = if connection.coalesces { connection.joined() } else { None };
        if connection.is_paused() || connection.cork == NONE && joined.is_none() || connection.phase != Phase::Open {
            return connection.is_paused();
        }
        let (bytes, messages) = self.corks.waiting(connection);
        let waiting = match joined {
            Some(joined) => (bytes + joined.payload_bytes(), messages + joined.messages as usize),
            None => (bytes, messages),
        };
        match connection.rare() {
            Some(rare) => rare.outbox.is_half_full(waiting, &self.limits),
            None => half_full(waiting.0, waiting.1, &self.limits),
        }
    }

    /// Keeps input for later.
    pub(super) fn hold(&mut self, slot: u32, buffer: BufferId, bytes: usize) {
        let connection = self.connections.at(slot);
        connection.paused = true;
        let received = &self.driver.bytes(&buffer)[..bytes];
        connection.with_rare(&mut self.held, |rare| rare.input.extend_from_slice(received));
        self.driver.release(buffer);
    }

    /// Keeps for later what is not decoded yet of input that is being handled, if anything.
    pub(super) fn hold_rest(&mut self, slot: u32, source: &mut Source, rest: Range<usize>) {
        let connection = self.connections.at(slot);
        connection.paused = true;
        if rest.is_empty() {
            return;
        }
        let Self { driver, held, .. } = self;
        connection.with_rare(held, |rare| match source {
            Source::Buffer(buffer) => rare.input.extend_from_slice(&driver.bytes(buffer)[rest]),
            Source::Head(bytes) => rare.input.extend_from_slice(&bytes[rest]),
            // It goes back to where it was taken from.
            Source::Held(bytes) => rare.input.unsplit(bytes.split_off(rest.start)),
        });
    }

    /// Ends the multishot receive of a connection that is paused. Unlike a demotion this can't wait for
    /// another second: until the receive has ended, input piles up.
    pub(super) fn end_if_paused(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.is_paused() && connection.watch == Watch::Multishot {
            connection.watch = Watch::Cancelling;
            // Hot again only after as many messages as the first time.
            connection.messages = 0;
            self.driver.cancel(Self::token(slot));
        }
    }

    /// Ends the pause: at once, or after what is held has been handled, still in this turn or in the next.
    pub(super) fn resume(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.stopped {
            // Not yet: the application has the last word.
            connection.paused = false;
            return;
        }
        // A decoder may have more to say of input that it has read.
        let held = connection.rare().is_some_and(|rare| !rare.input.is_empty());
        if held || !connection.decoder.is_idle() {
            self.resumed.push(slot);
        } else {
            connection.paused = false;
            self.watch(slot);
        }
    }

    /// Handles what is held for connections that are resumed.
    pub(super) fn take_held_input(&mut self) {
        while let Some(slot) = self.resumed.pop() {
            let Some(connection) = self.connections.in_use(slot) else { continue };
            if std::mem::take(&mut connection.paused) {
                self.take_input(slot, false);
                self.watch(slot);
            }
        }
    }

    /// Handles what is held for a connection whose stream has broken: there is no other time for it.
    pub(super) fn take_last_input(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if std::mem::take(&mut connection.stopped) | std::mem::take(&mut connection.paused) {
            self.take_input(slot, true);
        }
    }

    /// The application wants no more input for the time being.
    pub(super) fn stop_input(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.phase == Phase::Open {
            connection.stopped = true;
            self.end_if_paused(slot);
        }
    }

    /// The application wants input again.
    pub(super) fn restart_input(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !std::mem::take(&mut connection.stopped) {
            return;
        }
        // What it would have been heard by has not been read.
        connection.heard = true;
        let behind = connection.rare().is_some_and(|rare| rare.outbox.holds_more_than_lossy());
        if !(connection.paused && behind) {
            connection.paused = true;
            self.resume(slot);
        }
    }

    /// Handles what is held, as long as there is room for what it causes, or all of it.
    fn take_input(&mut self, slot: u32, all: bool) {
        let mut input = self.connections.at(slot).take_input(&mut self.held);
        if input.is_empty() {
            self.on_bytes(slot, Source::Held(BytesMut::new()), 0..0, all);
        }
        while !input.is_empty() && matches!(self.connections.at(slot).phase, Phase::Open | Phase::Closing) {
            if self.connections.at(slot).paused || !all && self.is_behind(slot) {
                let connection = self.connections.at(slot);
                connection.paused = true;
                // It lies behind what is held once more, in the same memory: nothing is copied.
                connection.with_rare(&mut self.held, |rare| rare.input.unsplit(input));
                break;
            }
            let piece = input.split_to(input.len().min(RECEIVE_BUFFER_BYTES));
            let length = piece.len();
            self.on_bytes(slot, Source::Held(piece), 0..length, all);
        }
        self.connections.at(slot).tidy(&mut self.held);
    }
}
