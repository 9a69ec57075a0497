//! What the client does about each completion: bytes that came, sends that are done, connections that end.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crore_engine::driver::{Completion, Driver, Errno, Outgoing, Shutdown, Token};

use super::connection::{Connection, Inbound, Life, NO_STATUS, State};
use super::deflate::Compressed;
use super::error::{ClientError, ProtocolError};
use super::frame::{self, FIN, RSV1, Stamp, opcode};
use super::load::{Actions, Load, Refusal};
use super::{Client, nanoseconds_since};

/// How long a server may take to end a connection whose close handshake is done. Then the client ends it.
const LINGER_NS: u64 = 1_000_000_000;

/// Completions carry slot and generation; the driver tells receives from sends.
pub(super) fn token(slot: u32, generation: u16) -> Token {
    Token::new(u64::from(generation) << 32 | u64::from(slot))
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a token, see `token`")]
pub(super) fn split(token: Token) -> (u32, u16) {
    (token.value() as u32, (token.value() >> 32) as u16)
}

impl Client {
    pub(super) fn handle(&mut self, completion: Completion, load: &mut impl Load) -> Result<(), ClientError> {
        match completion {
            Completion::Received { token, buffer, bytes, armed, .. } => {
                let (slot, _) = split(token);
                let now = self.now_ns();
                self.receives += 1;
                let connection = &mut self.connections[slot as usize];
                if connection.state == State::TurnedAway {
                    if !armed {
                        self.ring.receive_multishot(connection.socket, token);
                    }
                    self.ring.release(buffer);
                    return Ok(());
                }
                let bytes = &self.ring.bytes(&buffer)[..bytes as usize];
                let (shape, compress) = (self.config.shape, self.config.compress);
                let sampled = Compressed::is_sampled(slot);
                let life = Life { nonce: connection.nonce(slot), shape, compress, sampled };
                let mut context = Context {
                    slot,
                    now,
                    load,
                    actions: &mut self.actions,
                    opening: &mut self.opening,
                    open: &mut self.open,
                    last_opened: &mut self.last_opened,
                    lingering: &mut self.lingering,
                    unsolicited: &mut self.unsolicited,
                    compressed: self.compressed.as_mut(),
                    failure: None,
                };
                let received = connection.receive(bytes, life, |connection, inbound| context.take(connection, inbound));
                match context.failure.map_or(received, Err) {
                    Err(ProtocolError::Status(status)) if load.turned_away(slot, Refusal::Status(status)) => {
                        connection.state = State::TurnedAway;
                        self.opening -= 1;
                    }
                    result => result.map_err(|source| ClientError::Protocol { slot, source })?,
                }
                if !armed {
                    self.ring.receive_multishot(connection.socket, token);
                }
                self.ring.release(buffer);
                self.act(load);
                // A pong may be due.
                self.flush(load, slot);
            }
            Completion::ReceiveEnded(token, Some(Errno::NO_BUFFERS)) => {
                self.starved.push_back(token);
            }
            Completion::ReceiveEnded(token, errno) => self.ended(token, errno, load)?,
            Completion::Sent { token, result, outgoing } => self.sent(token, result, outgoing, load)?,
            Completion::ShutDown(token) => {
                let (slot, _) = split(token);
                match &mut self.connections[slot as usize].state {
                    State::Ended => self.close(slot, load),
                    state => *state = State::Closing,
                }
            }
            Completion::Accepted(_)
            | Completion::AcceptEnded(_)
            | Completion::Readable { .. }
            | Completion::Peer { .. }
            | Completion::Tick => {}
        }
        Ok(())
    }

    /// Receives again where there was no buffer: on as many connections as there are buffers now, or those that it would
    /// be in vain for take the kernel's time from the others. Before Linux 6.13 one enter runs all that have something.
    pub(super) fn feed_starved(&mut self) {
        let some = self.starved.len().min(self.ring.buffers_free());
        for token in self.starved.drain(..some) {
            let (slot, generation) = split(token);
            let connection = &self.connections[slot as usize];
            if connection.generation == generation && connection.state != State::Vacant {
                self.ring.receive_multishot(connection.socket, token);
            }
        }
    }

    /// Does what the load has asked for.
    fn act(&mut self, load: &impl Load) {
        let mut actions = std::mem::take(&mut self.actions);
        for (slot, count) in actions.sends.drain(..) {
            self.send(load, slot, count);
        }
        for slot in actions.closes.drain(..) {
            let connection = &mut self.connections[slot as usize];
            connection.state = State::Closing;
            connection.queue_frame(|frames| frame::control(frames, opcode::CLOSE, &NORMAL_CLOSURE, mask(slot)));
            self.flush(load, slot);
        }
        self.actions = actions;
    }

    /// Hands the kernel what connection `slot` has to send, unless it is busy with an earlier send.
    pub(super) fn flush(&mut self, load: &impl Load, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.sending || connection.state == State::Vacant {
            return;
        }
        let bytes = if let Some(queued) = connection.take_queued() {
            queued
        } else if connection.due > 0 {
            let now = nanoseconds_since(self.epoch);
            let mut frames = std::mem::take(&mut connection.frames);
            let first = connection.sent;
            let count = std::mem::take(&mut connection.due);
            let stamp = |index: usize| {
                let sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
                Stamp { sequence: sequence & Stamp::SEQUENCE_MASK, time_ns: load.stamp_ns(slot, sequence, now) }
            };
            match self.compressed.as_mut().filter(|_| self.config.sends_compressed) {
                Some(compressed) => {
                    frames.clear();
                    let first_byte = FIN | RSV1 | self.config.shape.opcode;
                    for index in 0..count as usize {
                        frame::append(&mut frames, first_byte, &compressed.compress(stamp(index)), mask(slot));
                    }
                }
                None => self.config.shape.write(&mut frames, slot, count as usize, mask(slot), stamp),
            }
            connection.sent = first.wrapping_add(count);
            frames
        } else {
            return;
        };
        connection.sending = true;
        let (socket, token) = (connection.socket, token(slot, connection.generation));
        self.ring.send(socket, token, Outgoing::Owned { bytes, start: 0 });
    }

    fn sent(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        mut outgoing: Outgoing,
        load: &mut impl Load,
    ) -> Result<(), ClientError> {
        let (slot, generation) = split(token);
        let connection = &mut self.connections[slot as usize];
        if connection.generation != generation || connection.state == State::Vacant {
            return Ok(());
        }
        match result {
            Ok(count) => outgoing.advance(count as usize),
            // A close frame that crosses the server's end is not missed.
            Err(_) if connection.state > State::Open || connection.state == State::TurnedAway => {
                outgoing.advance(outgoing.len());
            }
            Err(errno) if connection.state == State::Opening && load.turned_away(slot, Refusal::Failed(errno)) => {
                connection.state = State::TurnedAway;
                self.opening -= 1;
                outgoing.advance(outgoing.len());
            }
            Err(errno) => return Err(ClientError::Lost { slot, source: errno.into() }),
        }
        if !outgoing.is_empty() {
            self.ring.send(connection.socket, token, outgoing);
            return Ok(());
        }
        connection.sending = false;
        // The frames are gone only while a send has them; what else was sent is not kept.
        if let Outgoing::Owned { bytes, .. } = outgoing
            && connection.frames.is_empty()
            && connection.sent > 0
        {
            connection.frames = bytes;
        }
        self.flush(load, slot);
        Ok(())
    }

    /// The receive of a connection has ended, and with it the connection.
    fn ended(&mut self, token: Token, errno: Option<Errno>, load: &mut impl Load) -> Result<(), ClientError> {
        let (slot, _) = split(token);
        let connection = &mut self.connections[slot as usize];
        match connection.state {
            State::Closing => self.close(slot, load),
            State::ShuttingDown => connection.state = State::Ended,
            State::TurnedAway => self.vacate(slot, load),
            State::Opening if load.turned_away(slot, errno.map_or(Refusal::Closed, Refusal::Failed)) => {
                self.opening -= 1;
                self.vacate(slot, load);
            }
            _ => {
                let source = errno.map_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof), io::Error::from);
                return Err(ClientError::Lost { slot, source });
            }
        }
        Ok(())
    }

    fn close(&mut self, slot: u32, load: &mut impl Load) {
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Vacant;
        self.open -= 1;
        self.ring.close(connection.socket);
        load.closed(slot);
    }

    fn vacate(&mut self, slot: u32, load: &mut impl Load) {
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Vacant;
        self.ring.close(connection.socket);
        load.vacated(slot);
    }

    pub(super) fn end_lingering(&mut self) {
        while let Some(&(since, slot, generation)) = self.lingering.front() {
            let now = self.now_ns();
            let connection = &mut self.connections[slot as usize];
            let waiting = connection.generation == generation && connection.state == State::Closing;
            if waiting && since + LINGER_NS > now {
                break;
            }
            if waiting && self.ring.shutdown(connection.socket, token(slot, generation), Shutdown::Both) {
                connection.state = State::ShuttingDown;
            }
            self.lingering.pop_front();
        }
    }
}

/// Close code 1000 (RFC 6455, section 7.4.1).
const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();

/// The mask of all frames of connection `slot`: chosen once, so that masking is not part of the load. It is
/// not zero, so that a server does its whole work.
pub(super) fn mask(slot: u32) -> [u8; 4] {
    (slot.wrapping_mul(0x9E37_79B9) ^ 0x5BD1_E995).to_le_bytes()
}

/// What an inbound event may touch while its connection is borrowed.
struct Context<'turn, L> {
    slot: u32,
    now: u64,
    load: &'turn mut L,
    actions: &'turn mut Actions,
    opening: &'turn mut u32,
    open: &'turn mut u32,
    last_opened: &'turn mut Instant,
    lingering: &'turn mut VecDeque<(u64, u32, u16)>,
    unsolicited: &'turn mut u64,
    compressed: Option<&'turn mut Compressed>,
    /// What is wrong with a message that was looked into.
    failure: Option<ProtocolError>,
}

impl<L: Load> Context<'_, L> {
    fn take(&mut self, connection: &mut Connection, inbound: Inbound<'_>) {
        match inbound {
            Inbound::Opened => {
                *self.opening -= 1;
                *self.open += 1;
                *self.last_opened = Instant::now();
                self.load.opened(self.slot, self.now - connection.time_ns, self.actions);
            }
            Inbound::Message(stamp) => self.load.message(self.slot, stamp, self.now, self.actions),
            Inbound::Compressed(expected, payload) => {
                let Some(compressed) = &mut self.compressed else { return };
                match compressed.decompress(self.slot, payload) {
                    Ok(stamp) if stamp.sequence == expected => {
                        self.load.message(self.slot, stamp, self.now, self.actions);
                    }
                    Ok(Stamp { sequence: came, .. }) => {
                        self.failure = Some(ProtocolError::Sequence { expected, came });
                    }
                    Err(error) => self.failure = Some(error),
                }
            }
            Inbound::Unsolicited(payload) => {
                *self.unsolicited += 1;
                self.load.unsolicited(self.slot, payload, self.now);
            }
            Inbound::Ping(payload) => {
                self.load.pinged(self.slot, self.now);
                connection.queue_frame(|frames| frame::control(frames, opcode::PONG, payload, mask(self.slot)));
            }
            Inbound::Closing(code) if self.load.closing(self.slot, code) => {
                connection.state = State::Closing;
                // 1005 stands for none, and is not to be sent (RFC 6455, section 7.4.1).
                let echoed = if code == NO_STATUS { &[][..] } else { &code.to_be_bytes() };
                connection.queue_frame(|frames| frame::control(frames, opcode::CLOSE, echoed, mask(self.slot)));
            }
            Inbound::Closing(code) => self.failure = Some(ProtocolError::Closed(code)),
            Inbound::Closed => self.lingering.push_back((self.now, self.slot, connection.generation)),
        }
    }
}
