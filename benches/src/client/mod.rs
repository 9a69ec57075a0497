//! The load generator: one thread, one ring, any number of connections.
//!
//! What a client does influences the CPU time of the server on loopback, where the softirq of a
//! segment and the wake-up of its reader are charged to whoever sends. So all servers meet the
//! same client, in the same modes, and how busy it was stands in every report.

mod address;
mod connection;
mod error;
pub(crate) mod frame;
mod load;
mod upgrade;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crore_engine::driver::{Completion, Driver, Errno, Outgoing, Shutdown, Token};
use crore_engine::uring::{DescriptorKind, Ring, RingConfig, descriptor_limit, probe};

pub(crate) use address::{Target, TargetError};
use connection::{Connection, Inbound, State};
use error::STALL;
pub(crate) use error::{ClientError, ProtocolError};
use frame::{Stamp, opcode};
pub(crate) use load::{Actions, ClientConfig, Load, Wait};

/// How long a turn waits for the kernel before it looks at the clock again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Connects per turn, so that answers are not left waiting.
const CONNECTS_PER_TURN: u32 = 32;

/// How long a server may take to end a connection whose close handshake is done. Then the client ends it.
const LINGER_NS: u64 = 1_000_000_000;

/// The load generator. Lives on the thread that made it.
pub(crate) struct Client {
    ring: Ring,
    _wake: OwnedFd,
    config: ClientConfig,
    connections: Vec<Connection>,
    actions: Actions,
    /// Slots that wait for their connect.
    to_open: VecDeque<u32>,
    opening: u32,
    open: u32,
    attempts: u64,
    last_opened: Instant,
    /// Connections that have exchanged close frames and wait for the server to end them.
    lingering: VecDeque<(u64, u32, u16)>,
    unsolicited: u64,
    turns: u64,
    receives: u64,
    epoch: Instant,
}

/// Completions carry slot and generation; the driver tells receives from sends.
fn token(slot: u32, generation: u16) -> Token {
    Token::new(u64::from(generation) << 32 | u64::from(slot))
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a token, see `token`")]
fn split(token: Token) -> (u32, u16) {
    (token.value() as u32, (token.value() >> 32) as u16)
}

impl Client {
    /// Makes a client with `config.connections` empty slots.
    ///
    /// # Errors
    /// No ring, or not as many descriptors.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let wanted = config.connections;
        let features = probe(config.descriptors)?;
        let limit = u64::from(features.descriptors.connections_per_core(1));
        if u64::from(wanted) > limit {
            return Err(ClientError::Descriptors { wanted, limit: descriptor_limit() });
        }
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(io::Error::from)?;
        // A socket that is being closed still has its slot for a moment.
        let slots = u64::from(wanted.saturating_mul(2).saturating_add(64)).min(limit);
        let sockets_max = u32::try_from(slots).unwrap_or(u32::MAX);
        let ring = Ring::new(&RingConfig::new(features, sockets_max), wake.as_fd())?;
        Ok(Self {
            ring,
            _wake: wake,
            connections: (0..wanted).map(|_| Connection::vacant()).collect(),
            to_open: VecDeque::new(),
            opening: 0,
            open: 0,
            attempts: 0,
            last_opened: Instant::now(),
            lingering: VecDeque::new(),
            unsolicited: 0,
            turns: 0,
            receives: 0,
            actions: Actions::default(),
            epoch: Instant::now(),
            config,
        })
    }

    /// Nanoseconds since the client was made.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds_since(self.epoch)
    }

    /// Messages that the load did not send.
    pub(crate) fn unsolicited(&self) -> u64 {
        self.unsolicited
    }

    /// Begins to count turns anew, for [`Self::receives_per_turn`].
    pub(crate) fn reset_turns(&mut self) {
        (self.turns, self.receives) = (0, 0);
    }

    /// Receives that completed in a turn, of the turns in which any did. Near one, the client keeps up with the
    /// server message by message; near what the kernel hands out at a time (20 to 40), it is behind.
    pub(crate) fn receives_per_turn(&self) -> f64 {
        self.receives as f64 / self.turns.max(1) as f64
    }

    /// The kind of descriptor that the ring uses.
    pub(crate) fn descriptor_kind(&self) -> DescriptorKind {
        self.ring.descriptor_kind()
    }

    /// Has connection `slot` opened, in its turn.
    pub(crate) fn open(&mut self, slot: u32) {
        self.to_open.push_back(slot);
    }

    /// Opens connections until `wanted` are open; `progress` hears how many are.
    ///
    /// # Errors
    /// One of them fails, or the server stops answering.
    pub(crate) fn open_up_to(
        &mut self,
        wanted: u32,
        load: &mut impl Load,
        mut progress: impl FnMut(u32),
    ) -> Result<(), ClientError> {
        self.to_open.extend(self.open..wanted);
        self.last_opened = Instant::now();
        while self.open < wanted {
            self.turn(load)?;
            progress(self.open);
        }
        Ok(())
    }

    /// Sends `count` messages on connection `slot`, in one write.
    pub(crate) fn send(&mut self, load: &impl Load, slot: u32, count: u32) {
        self.connections[slot as usize].due += count;
        self.flush(load, slot);
    }

    /// One turn: connect, submit, wait, handle what came.
    ///
    /// # Errors
    /// A connection is lost or the server misbehaves; the load is then without meaning.
    pub(crate) fn turn(&mut self, load: &mut impl Load) -> Result<(), ClientError> {
        self.turn_within(load, PATIENCE)
    }

    /// As [`Self::turn`], but waits no longer than `patience`.
    pub(crate) fn turn_within(&mut self, load: &mut impl Load, patience: Duration) -> Result<(), ClientError> {
        self.connect_more()?;
        match self.config.wait {
            Wait::Block if !patience.is_zero() => self.ring.enter_and_wait(patience)?,
            _ => self.ring.enter()?,
        }
        let receives_before = self.receives;
        while let Some(completion) = self.ring.next_completion() {
            self.handle(completion, load)?;
        }
        self.turns += u64::from(self.receives > receives_before);
        self.end_lingering();
        if self.opening > 0 && self.last_opened.elapsed() > STALL {
            return Err(ClientError::Stalled { open: self.open, wanted: self.config.connections });
        }
        Ok(())
    }

    fn connect_more(&mut self) -> Result<(), ClientError> {
        for _ in 0..CONNECTS_PER_TURN {
            if self.opening >= self.config.window {
                break;
            }
            let Some(slot) = self.to_open.pop_front() else { break };
            let now = self.now_ns();
            let (number, address) = (self.attempts, self.config.target.address);
            let failed = |source| ClientError::Connect { number, address, source };
            let socket = self.config.target.connect(number, self.config.reset_at_end).map_err(failed)?;
            let socket = self.ring.adopt(socket.into()).map_err(failed)?;
            self.attempts += 1;
            if self.opening == 0 {
                self.last_opened = Instant::now();
            }
            self.opening += 1;
            let connection = &mut self.connections[slot as usize];
            connection.open(socket, now);
            let bytes = upgrade::request(&self.config.target, connection.nonce(slot));
            connection.sending = true;
            let token = token(slot, connection.generation);
            self.ring.receive_multishot(socket, token);
            self.ring.send(socket, token, Outgoing::Owned { bytes, start: 0 });
        }
        Ok(())
    }

    fn handle(&mut self, completion: Completion, load: &mut impl Load) -> Result<(), ClientError> {
        match completion {
            Completion::Received { token, buffer, bytes, armed, .. } => {
                let (slot, _) = split(token);
                let now = self.now_ns();
                self.receives += 1;
                let connection = &mut self.connections[slot as usize];
                let bytes = &self.ring.bytes(&buffer)[..bytes as usize];
                let nonce = connection.nonce(slot);
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
                };
                connection
                    .receive(bytes, nonce, self.config.shape, |connection, inbound| context.take(connection, inbound))
                    .map_err(|source| ClientError::Protocol { slot, source })?;
                if !armed {
                    self.ring.receive_multishot(connection.socket, token);
                }
                self.ring.release(buffer);
                self.act(load);
                // A pong may be due.
                self.flush(load, slot);
            }
            Completion::ReceiveEnded(token, Some(Errno::NO_BUFFERS)) => {
                let (slot, _) = split(token);
                self.ring.receive_multishot(self.connections[slot as usize].socket, token);
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
            Completion::Accepted(_) | Completion::AcceptEnded(_) | Completion::Readable(_) | Completion::Tick => {}
        }
        Ok(())
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
            connection.queue_control(|frames| frame::control(frames, opcode::CLOSE, &NORMAL_CLOSURE, mask(slot)));
            self.flush(load, slot);
        }
        self.actions = actions;
    }

    /// Hands the kernel what connection `slot` has to send, unless it is busy with an earlier send.
    fn flush(&mut self, load: &impl Load, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.sending || connection.state == State::Vacant {
            return;
        }
        let bytes = if let Some(control) = connection.take_control() {
            control
        } else if connection.due > 0 {
            let now = nanoseconds_since(self.epoch);
            let mut frames = std::mem::take(&mut connection.frames);
            let first = connection.sent;
            let count = std::mem::take(&mut connection.due);
            self.config.shape.write(&mut frames, count as usize, mask(slot), |index| {
                let sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
                Stamp { sequence: sequence & Stamp::SEQUENCE_MASK, time_ns: load.stamp_ns(slot, sequence, now) }
            });
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
        load: &impl Load,
    ) -> Result<(), ClientError> {
        let (slot, generation) = split(token);
        let connection = &mut self.connections[slot as usize];
        if connection.generation != generation || connection.state == State::Vacant {
            return Ok(());
        }
        match result {
            Ok(count) => outgoing.advance(count as usize),
            // A close frame that crosses the server's end is not missed.
            Err(_) if connection.state > State::Open => outgoing.advance(outgoing.len()),
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

    fn end_lingering(&mut self) {
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

fn nanoseconds_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Close code 1000 (RFC 6455, section 7.4.1).
const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();

/// The mask of all frames of connection `slot`: chosen once, so that masking is not part of the load. It is
/// not zero, so that a server does its whole work.
fn mask(slot: u32) -> [u8; 4] {
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
            Inbound::Unsolicited => *self.unsolicited += 1,
            Inbound::Ping(payload) => {
                connection.queue_control(|frames| frame::control(frames, opcode::PONG, payload, mask(self.slot)))
            }
            Inbound::Closed => self.lingering.push_back((self.now, self.slot, connection.generation)),
        }
    }
}
