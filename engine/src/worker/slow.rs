//! Connections that are sent more than they read: what is stored for them, what follows when they read on, and the end
//! of those that are too slow.

use super::Worker;
use super::connection::{NONE, Phase};
use super::corks::Parcel;
use super::label::Label;
use super::outbox::{Next, Stored};
use super::variants::frames_in;
use crate::driver::{Driver, Outgoing};
use crate::handler::{CloseCause, Gap, Handler};
use crate::protocol::Opcode;
use crate::protocol::close::code;
use crate::protocol::frame::append_frame;

/// What a slow consumer is told.
const TOO_SLOW: &str = "too slow";

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Puts a parcel into the outbox of a connection that is still sending, and applies its bounds.
    pub(super) fn store(&mut self, slot: u32, parcel: Parcel) {
        match parcel {
            Parcel { outgoing: Outgoing::Owned { bytes, start: 0 }, messages: 0, .. } => {
                let connection = self.connections.at(slot);
                connection.with_rare(&mut self.held, |rare| rare.outbox.store_control(bytes));
                return;
            }
            // A receive buffer must not be pinned by a slow reader.
            Parcel { outgoing: Outgoing::Received { buffer, start, end }, messages, .. } => {
                let mut bytes = self.corks.buffer();
                bytes.extend_from_slice(&self.driver.bytes(&buffer)[start as usize..end as usize]);
                self.driver.release(buffer);
                self.store_messages(slot, Parcel::new(Outgoing::Owned { bytes, start: 0 }, messages));
            }
            parcel if conflates(&parcel) && parcel.messages > 1 => self.store_apart(slot, parcel),
            parcel => self.store_messages(slot, parcel),
        }
        // Who does not read is not read from: the kernel's window closes on the peer before anything
        // of its own making overflows here. It is read from again when all has left, not before.
        let connection = self.connections.at(slot);
        let half_full = connection.rare().is_some_and(|rare| rare.outbox.is_half_full((0, 0), &self.limits));
        connection.paused |= half_full && connection.phase == Phase::Open;
    }

    /// Stores messages that were joined, each by itself, so that each can be replaced.
    fn store_apart(&mut self, slot: u32, parcel: Parcel) {
        let mut joined = self.corks.buffer();
        self.corks.move_into(&mut joined, parcel.outgoing);
        for (index, frame) in (0..).zip(frames_in(&joined)) {
            let outgoing = Outgoing::Owned { bytes: frame.bytes.to_vec(), start: 0 };
            let label = parcel.label.clone();
            self.store_messages(slot, Parcel { outgoing, messages: 1, index, label });
        }
        self.corks.recycle(joined);
    }

    fn store_messages(&mut self, slot: u32, parcel: Parcel) {
        let connection = self.connections.at(slot);
        let stored = connection.with_rare(&mut self.held, |rare| rare.outbox.store(parcel, &self.limits));
        let Stored { gone, conflated, too_slow } = stored;
        self.stats.messages_conflated += u64::from(conflated);
        let gone_messages: u32 = gone.iter().map(|parcel| parcel.messages).sum();
        self.stats.messages_dropped += u64::from(gone_messages - conflated);
        for parcel in gone {
            self.discard(parcel.outgoing);
        }
        if too_slow {
            self.too_slow.push(slot);
        }
    }

    /// After a send: what is next in the outbox, or whatever waited for the last send.
    pub(super) fn send_next(&mut self, slot: u32) {
        while let Some(next) = self.take_next(slot) {
            let outgoing = match next {
                Next::Parcel(parcel) => parcel.outgoing,
                Next::Gap { label, dropped } => match self.announce_gap(slot, label.as_deref(), dropped) {
                    Some(outgoing) => outgoing,
                    None => continue,
                },
            };
            let connection = self.connections.at(slot);
            // Something has left only because the peer reads. A pong it may owe for long: the ping
            // waits behind the rest, and while the connection is paused nothing is heard at all.
            connection.heard = true;
            let behind = connection.rare().is_some_and(|rare| rare.outbox.holds_more_than_lossy());
            let over = connection.paused && !behind;
            self.send(slot, outgoing);
            if over {
                self.catch_up(slot);
            }
            return;
        }
        let connection = self.connections.at(slot);
        connection.tidy(&mut self.held);
        // Not only with a rare part: it may have gone with the last topic while the last parcel left.
        if connection.paused {
            self.catch_up(slot);
        }
        self.on_all_sent(slot);
    }

    fn take_next(&mut self, slot: u32) -> Option<Next> {
        let Self { connections, held, corks, .. } = self;
        connections.at(slot).if_rare(held, |rare| rare.outbox.next(corks)).flatten()
    }

    /// Nothing waits any more that has kept the connection from being read from.
    fn catch_up(&mut self, slot: u32) {
        // What it would have been heard by has not been read.
        self.connections.at(slot).heard = true;
        self.resume(slot);
        if self.connections.at(slot).phase == Phase::Open {
            self.call(slot, |handler, context, state| handler.on_writable(context, state));
        }
    }

    /// What the peer is told in place of messages that were dropped. It is not compressed: what was compressed before
    /// and leaves after it refers to what lay there before.
    fn announce_gap(&mut self, slot: u32, label: Option<&Label>, dropped: u32) -> Option<Outgoing> {
        let connection = self.connections.at(slot);
        // The handler knows of it, and has not been told that it is over.
        if !connection.announced {
            return None;
        }
        let message = self.handler.on_gap(&mut connection.state, Gap { topic: label.map(Label::topic), dropped })?;
        self.stats.gaps_announced += 1;
        self.stats.messages_sent += 1;
        let mut bytes = self.corks.buffer();
        append_frame(&mut bytes, Opcode::from(message.kind), message.payload());
        Some(Outgoing::Owned { bytes, start: 0 })
    }

    /// Closes those whose outboxes have overflowed in this turn: when all that it had for them is stored
    /// or dropped, so that nothing follows what is missing but the close frame, in the next turn.
    pub(super) fn close_slow(&mut self) {
        let mut too_slow = std::mem::take(&mut self.too_slow);
        for slot in too_slow.drain(..) {
            let connection = self.connections.at(slot);
            // More than one parcel of the turn may have been too much.
            if connection.phase == Phase::Ended || connection.cork != NONE {
                continue;
            }
            let open = connection.phase == Phase::Open;
            self.stats.closed_slow += 1;
            self.drop_outbox(slot);
            if open {
                self.begin_close(slot, code::TRY_AGAIN_LATER, TOO_SLOW, CloseCause::SlowConsumer);
            } else {
                // It was closed within the turn, and the close frame has been dropped with the rest: it would
                // have hidden that something is missing before it.
                self.append_close_frame(slot, code::TRY_AGAIN_LATER, TOO_SLOW);
            }
        }
        self.too_slow = too_slow;
    }
}

fn conflates(parcel: &Parcel) -> bool {
    parcel.label.as_ref().is_some_and(|label| label.policy.is_replacing())
}
