//! Every way in which a connection ends.
//!
//! ```text
//! Open ── our close frame ──► Closing ── the peer's ──┐
//!   ├──── the peer's close frame, answered ───────────┴► Finishing ── all sent ──► Ended ──► freed
//!   ├──── broken protocol, HTTP answer ─────────► Finishing, linger ── its FIN ──────┤
//!   └──── end of stream, error, time-out, terminate ─────────────────────────────────┘
//! ```
//!
//! The handler hears of the step to Closing by `on_closing`, and by `on_close` of the step to Finishing or Ended.
//!
//! A socket is closed only when no request on it is in flight: the kernel would keep it alive for
//! them. Requests end by themselves at the peer's FIN; otherwise both directions are shut down.

use super::Worker;
use super::connection::{OwnClose, Phase};
use super::corks::Parcel;
use crate::driver::{Driver, Outgoing, Shutdown};
use crate::handler::{CloseCause, Closed, Closing, Handler};
use crate::protocol::Opcode;
use crate::protocol::close::{append_close, code, may_be_sent};
use crate::protocol::frame::append_frame;

/// What `on_close` is told when there was no close frame (RFC 6455, section 7.1.5).
const CODE_ABNORMAL: u16 = 1006;

/// What `on_close` is told when the close frame carried no code.
const CODE_NONE: u16 = 1005;

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Starts the close handshake: what was sent before leaves first, then the close frame. The handler, which may be
    /// the one that has asked for it, hears of it later in the turn, or in the next one if it is too late for that.
    pub(super) fn begin_close(&mut self, slot: u32, code: u16, reason: &str, cause: CloseCause) {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Open {
            return;
        }
        connection.phase = Phase::Closing;
        let code = sendable(code);
        let own = OwnClose { closing: Closing { code, cause }, told: false };
        connection.with_rare(&mut self.held, |rare| rare.closing = Some(own));
        self.closings.push(slot);
        self.leave_topics(slot);
        self.append_close_frame(slot, code, reason);
        self.timers.set(slot, self.clock.now(), self.limits.close_timeout);
        self.read_on(slot);
    }

    /// Answers a breach of the protocol: a close frame, and nothing the peer says any more counts.
    pub(super) fn fail(&mut self, slot: u32, code: u16, reason: &str, cause: CloseCause) {
        let open = self.connections.at(slot).phase == Phase::Open;
        self.finish(slot, true);
        if open {
            self.append_close_frame(slot, code, reason);
        }
        self.announce_end(slot, code, "", cause);
        self.on_all_sent(slot);
    }

    /// The peer's close frame has come: first, or in answer to ours.
    pub(super) fn on_close_frame(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        let connection = self.connections.at(slot);
        let open = connection.phase == Phase::Open;
        let closing = connection.rare().and_then(|rare| rare.closing);
        self.finish(slot, false);
        match code {
            Some(code) if open => self.append_close_frame(slot, code, ""),
            None if open => {
                let mut frame = self.corks.buffer();
                append_frame(&mut frame, Opcode::Close, &[]);
                self.push_close_frame(slot, frame);
            }
            _ => {}
        }
        let cause =
            if open { CloseCause::Peer } else { closing.map_or(CloseCause::Application, |own| own.closing.cause) };
        self.announce_end(slot, code.unwrap_or(CODE_NONE), reason, cause);
        self.on_all_sent(slot);
    }

    /// Nothing more will be said after what is on its way. What the turn has published so far is on its
    /// way, too, and comes before a close frame that is appended after this.
    pub(super) fn finish(&mut self, slot: u32, linger: bool) {
        self.leave_topics(slot);
        let connection = self.connections.at(slot);
        connection.phase = Phase::Finishing { linger };
        // What the peer still says is not decoded, so that it need not be held until the end.
        connection.decoder.release(&mut self.partials);
        self.timers.set(slot, self.clock.now(), self.limits.close_timeout);
        self.read_on(slot);
    }

    /// All output has left: goes on with the end, if this is one.
    pub(super) fn on_all_sent(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let waiting = connection.rare().is_some_and(|rare| !rare.outbox.is_empty());
        if connection.sending || connection.cork != super::connection::NONE || waiting {
            return;
        }
        match connection.phase {
            Phase::Finishing { linger: false } => self.end(slot),
            Phase::Finishing { linger: true } => self.shut_down(slot, Shutdown::Write),
            Phase::Proxied | Phase::Handshake | Phase::Open | Phase::Closing | Phase::Ended => {}
        }
    }

    /// The peer has ended the stream, or it has broken. What has come of it counts.
    pub(super) fn on_stream_ended(&mut self, slot: u32) {
        self.take_last_input(slot);
        self.cut(slot, CloseCause::Lost);
    }

    /// Ends a connection at once, without a word to the peer.
    pub(super) fn cut(&mut self, slot: u32, cause: CloseCause) {
        let connection = self.connections.at(slot);
        // Our close frame was on its way and the peer went without an answer.
        let cause = match connection.rare().and_then(|rare| rare.closing) {
            Some(own) if connection.phase == Phase::Closing => own.closing.cause,
            _ => cause,
        };
        self.end(slot);
        self.announce_end(slot, CODE_ABNORMAL, "", cause);
    }

    /// Frees everything but the slot, and makes what is in flight on the socket end.
    fn end(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.phase == Phase::Ended {
            return;
        }
        connection.phase = Phase::Ended;
        if connection.is_in_flight() {
            self.shut_down(slot, Shutdown::Both);
        }
        self.timers.forget(slot);
        self.wakes.forget(slot);
        self.drop_outbox(slot);
        self.leave_topics(slot);
        self.connections.at(slot).decoder.release(&mut self.partials);
        self.ended.push(slot);
    }

    fn shut_down(&mut self, slot: u32, how: Shutdown) {
        let connection = self.connections.at(slot);
        // With one in flight, the other half follows when it is done: in `on_shut_down`.
        if connection.shutting_down.is_none() && self.driver.shutdown(connection.socket, Self::token(slot), how) {
            connection.shutting_down = Some(how);
        }
    }

    /// A shutdown is done. If it was of one half only and the connection is over since, the other half
    /// follows, to end what else is in flight.
    pub(super) fn on_shut_down(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let done = connection.shutting_down.take();
        if connection.phase != Phase::Ended {
            return;
        }
        if !connection.is_in_flight() {
            self.ended.push(slot);
        } else if done == Some(Shutdown::Write) {
            self.shut_down(slot, Shutdown::Both);
        }
    }

    /// Closes the sockets of connections that are over and have nothing in flight, and frees their
    /// slots. At the end of the turn, so that a slot is good throughout it.
    pub(super) fn free_ended(&mut self) {
        while let Some(slot) = self.ended.pop() {
            let Some(connection) = self.connections.in_use(slot) else { continue };
            if connection.phase == Phase::Ended && !connection.is_in_flight() {
                self.driver.close(connection.socket);
                self.connections.remove(slot).free_rare(&mut self.held);
                self.peers.forget(slot);
                self.stats.connections -= 1;
            }
        }
    }

    /// Tells the application, once, that an open connection has ended.
    fn announce_end(&mut self, slot: u32, code: u16, reason: &str, cause: CloseCause) {
        // In this order where both happen within a turn.
        self.tell_closing(slot);
        let connection = self.connections.at(slot);
        if !std::mem::take(&mut connection.announced) {
            return;
        }
        let was_closing = connection.rare().is_some_and(|rare| rare.closing.is_some());
        self.stats.connections_open -= 1;
        let closed = Closed { code, reason, cause, was_closing };
        self.call(slot, |handler, context, state| handler.on_close(context, state, closed));
    }

    /// Tells the application of the connections that this side has begun to close: before their close frames leave, which
    /// is at the end of this turn at the earliest. Not where they are closed: that may be in the middle of what another
    /// call has asked for, or of a search; and a handler that closes others in turn would be called within itself.
    /// Those follow here, so that there are as many calls as closes at most.
    pub(super) fn tell_closings(&mut self) {
        let mut told = 0;
        while let Some(slot) = self.closings.get(told).copied() {
            told += 1;
            // It may have ended meanwhile, and have been freed with the last turn.
            if self.connections.in_use(slot).is_some() {
                self.tell_closing(slot);
            }
        }
        self.closings.clear();
    }

    /// Tells the application, once, that this side has begun to close a connection that it knows as open.
    fn tell_closing(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.announced {
            return;
        }
        let untold = connection.if_rare(&mut self.held, |rare| {
            let own = rare.closing.as_mut().filter(|own| !own.told)?;
            own.told = true;
            Some(own.closing)
        });
        if let Some(closing) = untold.flatten() {
            self.call(slot, |handler, context, state| handler.on_closing(context, state, closing));
        }
    }

    /// Appends a close frame with a code that may be sent.
    pub(super) fn append_close_frame(&mut self, slot: u32, code: u16, reason: &str) {
        debug_assert!(may_be_sent(code), "{code} must not be sent");
        let mut frame = self.corks.buffer();
        append_close(&mut frame, code, reason);
        self.push_close_frame(slot, frame);
    }

    /// Puts a close frame behind what the turn has for the connection: as a parcel of its own, or it would
    /// share the fate of the messages that it was joined with at the bounds of the outbox.
    fn push_close_frame(&mut self, slot: u32, frame: Vec<u8>) {
        self.flush_joined(slot);
        let parcel = Parcel::new(Outgoing::Owned { bytes: frame, start: 0 }, 0);
        let connection = self.connections.at(slot);
        self.corks.push(slot, connection, parcel);
    }

    /// Ends all subscriptions of a connection.
    fn leave_topics(&mut self, slot: u32) {
        for topic in self.connections.at(slot).take_topics(&mut self.held) {
            self.leave(slot, topic);
        }
    }

    /// Gives up what waits for the peer to read.
    pub(super) fn drop_outbox(&mut self, slot: u32) {
        let parcels = self.connections.at(slot).if_rare(&mut self.held, |rare| rare.outbox.take());
        for parcel in parcels.into_iter().flatten() {
            self.stats.messages_dropped += u64::from(parcel.messages);
            self.discard(parcel.outgoing);
        }
        let joined = self.connections.at(slot).take_joined(&mut self.held);
        self.stats.messages_dropped += joined.map_or(0, |joined| u64::from(joined.messages));
    }

    /// Reads again if the connection was paused: its end must be seen.
    fn read_on(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if std::mem::take(&mut connection.stopped) || connection.paused {
            connection.paused = true;
            self.resume(slot);
        }
    }
}

/// The code that goes out where the application asks for this one.
fn sendable(code: u16) -> u16 {
    if may_be_sent(code) {
        return code;
    }
    tracing::warn!(code, "the application closes with a code that must not be sent: 1011 goes out instead");
    code::INTERNAL_ERROR
}
