//! Messages that are joined for connections which have asked for it.
//!
//! ```text
//! messages of the connection's own ─┐
//! what is published and broadcast ──┴► joined, in the rare part ── full, or its time has come ──► one frame ──► cork
//!                                          └── whatever else the connection is sent: first what is joined, then that
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::corks::Corks;
use super::held::Held;
use super::variants::{Deflating, frames_in};
use crate::coalescing::Coalescing;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::id::ConnectionId;
use crate::limits::{COALESCED_BYTES_MAX, LIST_ENTRIES_KEPT_MAX};
use crate::protocol::Opcode;
use crate::protocol::frame::{WrittenFrame, append_frame, written_frame};
use crate::stats::Stats;

/// What a connection is to be sent in one message.
pub(super) struct Joined {
    /// The prefix, and the messages.
    payload: Vec<u8>,
    pub(super) messages: u32,
    due: Duration,
}

impl Joined {
    pub(super) fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.payload.capacity()
    }
}

/// Who coalesces, and until when.
pub(super) struct Coalescer {
    terms: Option<Coalescing>,
    /// When what has begun is to leave, in this order, since all wait equally long. What has left before its time,
    /// because it was full, is passed over: there is one entry at most for each two messages of the last delay.
    due: VecDeque<(Duration, ConnectionId)>,
}

/// Where messages go.
pub(super) struct Output<'a> {
    pub(super) corks: &'a mut Corks,
    pub(super) deflating: Option<&'a mut Deflating>,
    pub(super) held: &'a mut Held,
    pub(super) stats: &'a mut Stats,
}

impl Output<'_> {
    /// Appends an encoded frame to what this turn has for the connection: compressed if that was agreed on.
    pub(super) fn append<S>(&mut self, slot: u32, connection: &mut Connection<S>, frame: &[u8], messages: u32) {
        match (&mut self.deflating, written_frame(frame)) {
            (Some(deflating), Some(frame)) if connection.deflate.is_agreed() => {
                let mut compressed = self.corks.buffer();
                deflating.append(&mut compressed, &frame, connection, self.held, self.stats);
                self.corks.append(slot, connection, &compressed, messages);
                self.corks.recycle(compressed);
            }
            _ => self.corks.append(slot, connection, frame, messages),
        }
    }
}

impl Coalescer {
    pub(super) const fn new(terms: Option<Coalescing>) -> Self {
        Self { terms, due: VecDeque::new() }
    }

    /// Whether messages can be joined at all.
    pub(super) const fn is_on(&self) -> bool {
        self.terms.is_some()
    }

    /// When the first is to leave.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.front().map(|(due, _)| *due)
    }

    /// Bytes of heap, beside what connections hold.
    pub(super) fn heap_bytes(&self) -> usize {
        self.due.capacity() * size_of::<(Duration, ConnectionId)>()
    }

    /// Gives back what is not needed.
    pub(super) fn trim(&mut self) {
        self.due.shrink_to(LIST_ENTRIES_KEPT_MAX);
    }

    /// Adds a message, which keeps its place among all that the connection is sent.
    pub(super) fn add<S>(
        &mut self,
        id: ConnectionId,
        connection: &mut Connection<S>,
        frame: &WrittenFrame<'_>,
        now: Duration,
        output: &mut Output<'_>,
    ) {
        let Some(terms) = self.terms else { return };
        let payload = frame.payload;
        let fits = |before: usize| before + payload.len() <= COALESCED_BYTES_MAX;
        if frame.opcode != Opcode::Text || terms.messages_max < 2 || !fits(0) {
            self.flush(id.slot(), connection, output);
            output.append(id.slot(), connection, frame.bytes, 1);
            return;
        }
        if connection.joined().is_some_and(|joined| !fits(joined.payload.len() + terms.separator.len())) {
            self.flush(id.slot(), connection, output);
        }
        let due = now.saturating_add(terms.delay);
        let Output { corks, held, .. } = output;
        let messages = connection.with_rare(held, |rare| {
            let joined =
                rare.joined.get_or_insert_with(|| Box::new(Joined { payload: corks.buffer(), messages: 0, due }));
            let before = if joined.messages == 0 { terms.prefix } else { terms.separator };
            joined.payload.extend_from_slice(before.as_bytes());
            joined.payload.extend_from_slice(payload);
            joined.messages += 1;
            joined.messages
        });
        if messages == 1 {
            self.due.push_back((due, id));
        } else if messages >= terms.messages_max {
            self.flush(id.slot(), connection, output);
        }
    }

    /// Lets what is joined leave.
    pub(super) fn flush<S>(&self, slot: u32, connection: &mut Connection<S>, output: &mut Output<'_>) {
        let Some(Joined { mut payload, messages, .. }) = connection.take_joined(output.held) else { return };
        let terms = self.terms.expect("nothing is joined without");
        let mut frame = output.corks.buffer();
        if messages == 1 {
            append_frame(&mut frame, Opcode::Text, &payload[terms.prefix.len()..]);
        } else {
            payload.extend_from_slice(terms.suffix.as_bytes());
            append_frame(&mut frame, Opcode::Text, &payload);
            output.stats.messages_coalesced += u64::from(messages);
        }
        output.append(slot, connection, &frame, messages);
        output.corks.recycle(frame);
        output.corks.recycle(payload);
    }
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Whether the connection's messages are joined from now on.
    pub(super) fn coalesce(&mut self, slot: u32, on: bool) {
        self.flush_joined(slot);
        let connection = self.connections.at(slot);
        connection.coalesces = on && self.coalescer.is_on();
        connection.apart = connection.coalesces;
    }

    /// Adds an encoded message to what is joined for a connection.
    pub(super) fn join(&mut self, slot: u32, frame: &[u8]) {
        let id = self.connections.id_at(slot);
        let Self { coalescer, connections, corks, deflating, held, stats, clock, .. } = self;
        let mut output = Output { corks, deflating: deflating.as_mut(), held, stats };
        for frame in frames_in(frame) {
            coalescer.add(id, connections.at(slot), &frame, clock.now(), &mut output);
        }
    }

    /// Lets what is joined for a connection leave, for something else follows it.
    pub(super) fn flush_joined(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.coalesces {
            let Self { coalescer, connections, corks, deflating, held, stats, .. } = self;
            let mut output = Output { corks, deflating: deflating.as_mut(), held, stats };
            coalescer.flush(slot, connections.at(slot), &mut output);
        }
    }

    /// Lets everything leave that has waited long enough.
    pub(super) fn flush_due(&mut self) {
        let now = self.clock.now();
        while let Some((_, id)) = self.coalescer.due.pop_front_if(|(due, _)| *due <= now) {
            let Some(slot) = self.connections.slot_of(id) else { continue };
            if self.connections.at(slot).joined().is_some_and(|joined| joined.due <= now) {
                self.flush_joined(slot);
            }
        }
    }
}
