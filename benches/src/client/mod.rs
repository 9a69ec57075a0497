//! The load generator: one thread, one ring, any number of connections.
//!
//! What a client does influences the CPU time of the server on loopback, where the softirq of a
//! segment and the wake-up of its reader are charged to whoever sends. So all servers meet the
//! same client, in the same modes, and how busy it was stands in every report.

mod address;
pub(crate) mod channels;
mod completions;
mod connection;
mod deflate;
mod error;
pub(crate) mod frame;
mod load;
pub(crate) mod payload;
mod upgrade;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crore_engine::driver::{Completion, Driver, Outgoing, Token};
use crore_engine::uring::{DescriptorKind, Ring, RingConfig, descriptor_limit, probe};

pub(crate) use address::{CONNECTIONS_PER_SOURCE, Target, TargetError};
use completions::token;
use connection::{Connection, State};
use deflate::Compressed;
pub(crate) use deflate::Takeover;
pub(crate) use error::STALL;
pub(crate) use error::{ClientError, ProtocolError};
pub(crate) use load::{Actions, ClientConfig, Load, Refusal, Wait};

/// How long a turn waits for the kernel before it looks at the clock again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Connects per turn, so that answers are not left waiting.
const CONNECTS_PER_TURN: u32 = 32;

/// Resets between two looks at what they caused: a core that others share is not kept for long.
const RESETS_PER_ENTER: u32 = 16;

/// The load generator. Lives on the thread that made it.
pub(crate) struct Client {
    ring: Ring,
    _wake: OwnedFd,
    config: ClientConfig,
    connections: Vec<Connection>,
    actions: Actions,
    compressed: Option<Compressed>,
    /// Slots that wait for their connect.
    to_open: VecDeque<u32>,
    opening: u32,
    open: u32,
    attempts: u64,
    last_opened: Instant,
    /// Connections that have exchanged close frames and wait for the server to end them.
    lingering: VecDeque<(u64, u32, u16)>,
    /// Those that have found no receive buffer.
    starved: VecDeque<Token>,
    unsolicited: u64,
    turns: u64,
    receives: u64,
    epoch: Instant,
}

/// Rings of a scenario that holds its connections on more than one.
const RINGS_MAX: u64 = 128;

impl ClientConfig {
    /// The settings of as many clients as it takes for these connections with at most `each_max` on a ring, each with source
    /// addresses of its own. The process holds `others` besides.
    ///
    /// # Errors
    /// Not as many descriptors, or no ring.
    pub(crate) fn over_rings(&self, each_max: u64, others: u32) -> Result<Vec<Self>, ClientError> {
        let kind = probe(self.descriptors)?.descriptors;
        let limit = kind.connections_per_core(1);
        let wanted = self.connections;
        let each = u64::from(limit).clamp(1, each_max);
        // The limit of regular descriptors counts the whole process.
        let (held, held_max) = match kind {
            DescriptorKind::Regular => (u64::from(wanted) + u64::from(others), u64::from(limit)),
            DescriptorKind::Direct => (u64::from(wanted), each * RINGS_MAX),
        };
        if held > held_max {
            return Err(ClientError::Descriptors { wanted, limit: held_max });
        }
        let clients = u32::try_from(u64::from(wanted).div_ceil(each)).unwrap_or(u32::MAX).max(1);
        let apart = each.next_multiple_of(CONNECTIONS_PER_SOURCE);
        let share = |client: u32| Self {
            connections: wanted / clients + u32::from(client < wanted % clients),
            first_attempt: self.first_attempt + u64::from(client) * apart,
            ..self.clone()
        };
        Ok((0..clients).map(share).collect())
    }
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
            attempts: config.first_attempt,
            last_opened: Instant::now(),
            lingering: VecDeque::new(),
            starved: VecDeque::new(),
            unsolicited: 0,
            turns: 0,
            receives: 0,
            actions: Actions::default(),
            compressed: config.compress.map(|takeover| Compressed::new(takeover, config.shape)),
            epoch: Instant::now(),
            config,
        })
    }

    /// Connections that a client can have, as far as the limit of descriptors goes.
    ///
    /// # Errors
    /// No ring.
    pub(crate) fn connections_max(config: &ClientConfig) -> Result<u32, ClientError> {
        Ok(probe(config.descriptors)?.descriptors.connections_per_core(1))
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

    /// Connections that it has slots for.
    pub(crate) const fn slots(&self) -> u32 {
        self.config.connections
    }

    /// The kind of descriptor that the ring uses.
    pub(crate) fn descriptor_kind(&self) -> DescriptorKind {
        self.ring.descriptor_kind()
    }

    /// Connections that are to open, and have not been answered.
    pub(crate) fn waiting(&self) -> u32 {
        self.opening + u32::try_from(self.to_open.len()).unwrap_or(u32::MAX)
    }

    /// Waits no longer for those that are to open: whatever comes of them is no failure.
    pub(crate) fn give_up(&mut self) {
        self.to_open.clear();
        self.opening = 0;
        for connection in &mut self.connections {
            if connection.state == State::Opening {
                connection.state = State::TurnedAway;
            }
        }
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

    /// Sends one text message that is not of the load's shape on connection `slot`.
    pub(crate) fn say(&mut self, load: &impl Load, slot: u32, text: &[u8]) {
        let mask = completions::mask(slot);
        let connection = &mut self.connections[slot as usize];
        connection.queue_frame(|frames| frame::append(frames, frame::FIN | frame::opcode::TEXT, text, mask));
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
        self.feed_starved();
        match self.config.wait {
            Wait::Block if !patience.is_zero() && self.starved.is_empty() => self.ring.enter_and_wait(patience)?,
            _ => self.ring.enter()?,
        }
        let receives_before = self.receives;
        while let Some(completion) = self.ring.next_completion() {
            self.handle(completion, load)?;
        }
        self.turns += u64::from(self.receives > receives_before);
        self.end_lingering();
        let stall = self.config.stall;
        if self.opening > 0 && self.last_opened.elapsed() > stall {
            return Err(ClientError::Stalled { stall, open: self.open, wanted: self.config.connections });
        }
        Ok(())
    }

    /// Resets all connections, as fast as that goes.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(crate) fn reset_all(mut self) -> Result<(), ClientError> {
        self.reset(u32::MAX)
    }

    /// Resets so many of the connections. All that can be done afterwards is to end.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(crate) fn reset(&mut self, count: u32) -> Result<(), ClientError> {
        let (mut armed, mut done) = (0_u32, 0);
        for (slot, connection) in (0..).zip(&self.connections) {
            if connection.state == State::Vacant {
                continue;
            }
            if done == count {
                break;
            }
            done += 1;
            // A socket is released, and its peer told, when no request on it is in flight.
            self.ring.cancel(token(slot, connection.generation));
            self.ring.close(connection.socket);
            armed += 1;
            if slot % RESETS_PER_ENTER == 0 {
                self.ring.enter()?;
                armed = armed.saturating_sub(ended_receives(&mut self.ring));
                std::thread::yield_now();
            }
        }
        // For those that wait for a buffer there was nothing to cancel.
        for token in self.starved.drain(..) {
            let (slot, generation) = completions::split(token);
            let connection = &self.connections[slot as usize];
            armed -= u32::from(connection.generation == generation && connection.state != State::Vacant && armed > 0);
        }
        let begin = Instant::now();
        while armed > 0 && begin.elapsed() < STALL {
            self.ring.enter_and_wait(PATIENCE)?;
            armed = armed.saturating_sub(ended_receives(&mut self.ring));
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
            let failed = |source| ClientError::Connect { slot, number, address, source };
            let socket = self.config.target.connect(number, self.config.reset_at_end).map_err(failed)?;
            let socket = self.ring.adopt(socket.into()).map_err(failed)?;
            self.attempts += 1;
            if self.opening == 0 {
                self.last_opened = Instant::now();
            }
            self.opening += 1;
            let connection = &mut self.connections[slot as usize];
            connection.open(socket, now);
            let bytes = upgrade::request(&self.config.target, connection.nonce(slot), self.config.compress);
            connection.sending = true;
            let token = token(slot, connection.generation);
            self.ring.receive_multishot(socket, token);
            self.ring.send(socket, token, Outgoing::Owned { bytes, start: 0 });
        }
        Ok(())
    }
}

/// Takes what has come, and counts the receives that have ended.
fn ended_receives(ring: &mut Ring) -> u32 {
    let mut ended = 0;
    while let Some(completion) = ring.next_completion() {
        match completion {
            Completion::ReceiveEnded(..) => ended += 1,
            Completion::Received { buffer, armed, .. } => {
                ring.release(buffer);
                ended += u32::from(!armed);
            }
            _ => {}
        }
    }
    ended
}

fn nanoseconds_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
