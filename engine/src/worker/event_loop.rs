//! One turn of a worker, in data-flow order.

use std::io;
use std::time::Duration;

use super::Worker;
use super::connection::{Phase, Watch};
use super::connections::Connections;
use super::corks::Cork;
use super::held::owned_bytes;
use crate::driver::{Completion, Driver, Errno, Outgoing, PeerAddress, Socket, Token};
use crate::handler::Handler;
use crate::limits::{
    RECEIVE_BUFFER_BYTES, SEND_BUFFER_KEPT_BYTES_MAX, TICK_MS, TURN_COMMANDS_MAX, TURN_COMPLETIONS_MAX,
};
use crate::peers::ProxyProtocol;
use crate::protocol::deflate::Decompressed;

/// What a turn has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do: take another turn.
    Busy,
    /// Nothing to do until the kernel, another core or a thread says so.
    Idle,
    /// The drain is complete: the worker has ended.
    Ended,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Hands queued requests over, handles what has come of earlier ones, and queues what follows.
    ///
    /// # Errors
    /// The kernel's side is unusable.
    pub(crate) fn turn(&mut self) -> io::Result<Progress> {
        self.driver.enter()?;
        self.clock.read();
        self.stats.turns += 1;
        for _ in 0..TURN_COMPLETIONS_MAX {
            let Some(completion) = self.driver.next_completion() else { break };
            self.complete(completion);
        }
        self.leave_some();
        self.drain_some();
        self.take_commands();
        self.expire();
        self.flush_due();
        self.take_held_input();
        self.tell_closings();
        self.flush();
        let Decompressed { messages, bytes_in, bytes_out } = self.partials.decompressed();
        self.stats.decompressions = messages;
        self.stats.decompression_bytes_in = bytes_in;
        self.stats.decompression_bytes_out = bytes_out;
        self.shared_stats.publish(&self.stats);
        Ok(self.progress())
    }

    /// Whether the worker may be parked: asked again after others have been told that it is.
    pub(crate) fn progress(&mut self) -> Progress {
        let now = self.clock.now();
        let connections = self.connections.len();
        let closes_due = self.draining.as_ref().is_some_and(|draining| draining.due(now, connections) > 0);
        let left = !self.corks.list.is_empty() || !self.resumed.is_empty() || closes_due;
        let left = left || !self.leaving.is_empty() || !self.batches[self.core.index()].is_empty();
        let left = left || self.wakes.is_due() || !self.closings.is_empty();
        let output = left || self.driver.has_queued() || self.budget.is_searching();
        // Among what has come and is not handled yet may be connections that are to be closed.
        let kernel = output || self.driver.has_completions();
        if self.draining.is_some() && connections == 0 && !kernel {
            return Progress::Ended;
        }
        if kernel || !self.commands.is_empty() || self.port.has_work() { Progress::Busy } else { Progress::Idle }
    }

    /// Takes note that the host is about to wait.
    pub(crate) fn note_park(&mut self) {
        self.stats.parks += 1;
    }

    fn complete(&mut self, completion: Completion) {
        if !matches!(completion, Completion::Tick) {
            self.trims.note_activity();
        }
        if !matches!(completion, Completion::Readable { gone: true, .. } | Completion::ReceiveEnded(..)) {
            self.leaving.note_other();
        }
        match completion {
            Completion::Received { token, buffer, bytes, nonempty, armed } => {
                self.on_received(Connections::<H::Connection>::slot(token), buffer, bytes as usize, nonempty, armed);
            }
            Completion::Sent { token, result, outgoing } => {
                self.on_sent(Connections::<H::Connection>::slot(token), result, outgoing);
            }
            Completion::Readable { token, gone } => self.on_readable(Connections::<H::Connection>::slot(token), gone),
            Completion::ReceiveEnded(token, errno) => {
                self.on_receive_ended(Connections::<H::Connection>::slot(token), errno);
            }
            Completion::Accepted(socket) => self.on_accepted(socket),
            Completion::AcceptEnded(errno) => self.on_accept_ended(errno),
            Completion::ShutDown(token) => self.on_shut_down(Connections::<H::Connection>::slot(token)),
            Completion::Peer { token, address } => self.peers.set(Connections::<H::Connection>::slot(token), address),
            Completion::Tick => self.ticking = false,
        }
    }

    fn on_accepted(&mut self, socket: Socket) {
        self.stats.accepted += 1;
        if self.draining.is_some() {
            self.driver.close(socket);
            return;
        }
        let Some(slot) = self.connections.insert(socket) else {
            self.stats.refused_full += 1;
            self.driver.close(socket);
            return;
        };
        self.stats.connections += 1;
        self.timers.set(slot, self.clock.now(), self.limits.handshake_timeout);
        // Before the socket is watched, so that whoever has sent a request has an address.
        if self.peer_addresses
            && let PeerAddress::Known(address) = self.driver.peer_address(socket, Self::token(slot))
        {
            self.peers.set(slot, address);
        }
        if let ProxyProtocol::Required(_) = self.proxy_protocol {
            self.connections.at(slot).phase = Phase::Proxied;
        }
        self.watch(slot);
    }

    fn on_accept_ended(&mut self, errno: Option<Errno>) {
        // Whoever drains has ended the listener, before this core hears of it.
        if self.draining.is_some() || self.handle.is_draining() {
            return;
        }
        match errno {
            // Without descriptors the next accept fails at once, too: not before the next tick.
            Some(errno @ (Errno::TABLE_FULL | Errno::TOO_MANY)) => {
                self.stats.accepts_failed += 1;
                tracing::warn!(core = %self.core, error = %io::Error::from(errno), "accept: out of descriptors");
                self.accept_later = true;
            }
            Some(_) => {
                self.stats.accepts_failed += 1;
                self.accept_later = true;
            }
            None => self.driver.accept(),
        }
    }

    /// Arms whatever fits the connection: nothing, a poll, or a multishot receive.
    pub(super) fn watch(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        // Who has had the last word from both sides needs no watching: a request on the socket would
        // have to be ended by a shutdown.
        let over = matches!(connection.phase, Phase::Ended | Phase::Finishing { linger: false });
        if connection.watch != Watch::Nothing || connection.is_paused() || over {
            return;
        }
        let token = Connections::<H::Connection>::token(slot);
        if connection.messages >= crate::limits::HOT_MESSAGES && connection.phase == Phase::Open {
            connection.watch = Watch::Multishot;
            self.stats.connections_hot += 1;
            self.driver.receive_multishot(connection.socket, token);
        } else {
            connection.watch = Watch::Poll;
            self.driver.poll(connection.socket, token);
        }
    }

    fn on_readable(&mut self, slot: u32, gone: bool) {
        let connection = self.connections.at(slot);
        connection.watch = Watch::Nothing;
        if connection.phase == Phase::Ended {
            self.ended.push(slot);
            return;
        }
        if gone {
            self.leave_later(slot);
            return;
        }
        self.receive(slot);
    }

    /// A receive, of either kind, has ended.
    pub(super) fn stop_watching(&mut self, slot: u32) {
        match std::mem::replace(&mut self.connections.at(slot).watch, Watch::Nothing) {
            Watch::Receive => self.starved.note_received(),
            Watch::Multishot | Watch::Cancelling => self.stats.connections_hot -= 1,
            Watch::Nothing | Watch::Poll | Watch::Starved => debug_assert!(false, "nothing was being received"),
        }
    }

    fn on_receive_ended(&mut self, slot: u32, errno: Option<Errno>) {
        let connection = self.connections.at(slot);
        let hot = matches!(connection.watch, Watch::Multishot | Watch::Cancelling);
        let phase = connection.phase;
        self.stop_watching(slot);
        let connection = self.connections.at(slot);
        if phase == Phase::Ended {
            self.ended.push(slot);
            return;
        }
        match errno {
            Some(Errno::AGAIN | Errno::CANCELED) => self.watch(slot),
            Some(Errno::NO_BUFFERS) => self.starve(slot),
            // The end comes again, behind what is held.
            None if connection.is_paused() => {}
            // Here, too, and in place of an error that is told only once.
            _ if hot && connection.phase == Phase::Open => self.leave_later(slot),
            None => {
                if matches!(connection.phase, Phase::Finishing { .. }) {
                    // The peer has no more to say, but may still be reading what we have.
                    connection.phase = Phase::Finishing { linger: false };
                    self.on_all_sent(slot);
                } else {
                    self.on_stream_ended(slot);
                }
            }
            Some(_) => self.on_stream_ended(slot),
        }
    }

    fn on_sent(&mut self, slot: u32, result: Result<u32, Errno>, mut outgoing: Outgoing) {
        let connection = self.connections.at(slot);
        connection.sending = false;
        let bytes = owned_bytes(&outgoing);
        self.held.sends -= bytes;
        if bytes > SEND_BUFFER_KEPT_BYTES_MAX {
            connection.if_rare(&mut self.held, |rare| rare.sending = 0);
        }
        self.stats.bytes_sent += result.map_or(0, u64::from);
        if connection.phase == Phase::Ended {
            self.discard(outgoing);
            self.ended.push(slot);
            return;
        }
        match result {
            Ok(count) if (count as usize) < outgoing.len() => {
                // The rest goes on from there. Something has left only because the peer reads, and a ping waits
                // behind all of it.
                connection.heard |= count > 0;
                outgoing.advance(count as usize);
                self.send(slot, outgoing);
            }
            Ok(_) => {
                self.discard(outgoing);
                self.send_next(slot);
            }
            Err(_) => {
                self.discard(outgoing);
                if self.is_leaving(slot) {
                    self.drop_outbox(slot);
                    self.receive(slot);
                } else {
                    self.on_stream_ended(slot);
                }
            }
        }
    }

    /// Queues the one send that a connection may have in flight.
    pub(super) fn send(&mut self, slot: u32, outgoing: Outgoing) {
        let connection = self.connections.at(slot);
        debug_assert!(!connection.sending, "two sends on one socket may overtake each other");
        connection.sending = true;
        let bytes = owned_bytes(&outgoing);
        self.held.sends += bytes;
        if bytes > SEND_BUFFER_KEPT_BYTES_MAX {
            connection.with_rare(&mut self.held, |rare| rare.sending = bytes);
        }
        self.driver.send(connection.socket, Connections::<H::Connection>::token(slot), outgoing);
    }

    /// Gives memory back to where it came from.
    pub(super) fn discard(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Received { buffer, .. } => self.driver.release(buffer),
            Outgoing::Owned { bytes, .. } => self.corks.recycle(bytes),
            Outgoing::Shared { bytes, .. } => self.corks.release_shared(bytes),
        }
    }

    /// Everything that the turn has to say leaves: to topics, to connections, to other cores.
    fn flush(&mut self) {
        self.flush_broadcasts();
        let mut corks = std::mem::take(&mut self.corks.list);
        for Cork { slot, generation, parcel, .. } in corks.drain(..) {
            let Some(connection) = self.connections.still(slot, generation) else {
                self.discard(parcel.outgoing);
                continue;
            };
            connection.cork = super::connection::NONE;
            if connection.phase == Phase::Ended {
                self.discard(parcel.outgoing);
            } else if connection.sending {
                self.store(slot, parcel);
            } else {
                self.send(slot, parcel.outgoing);
            }
        }
        debug_assert!(self.corks.list.is_empty(), "what is said on the way would be lost");
        self.corks.list = corks;
        self.close_slow();
        self.relieve();
        self.feed_starved();
        self.flush_batches();
        self.free_ended();
        if self.coalescer.next_due().is_some() {
            self.keep_ticking();
        }
    }

    fn take_commands(&mut self) {
        // What the handler tells its own core while this is taken waits for the next turn.
        let mut own = std::mem::take(&mut self.batches[self.core.index()]);
        self.own_taken = own.len();
        for command in own.drain(..) {
            self.own_taken -= 1;
            self.trims.note_activity();
            self.obey(command);
        }
        let own_batch = &mut self.batches[self.core.index()];
        if own_batch.is_empty() {
            *own_batch = own;
        }
        for _ in 0..TURN_COMMANDS_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            self.trims.note_activity();
            self.obey(command);
        }
        for _ in 0..TURN_COMMANDS_MAX {
            let Some((_, batch)) = self.port.receive() else { break };
            self.trims.note_activity();
            for command in batch {
                self.obey(command);
            }
        }
    }

    fn flush_batches(&mut self) {
        for index in 0..self.batches.len() {
            // What this core leaves for itself it takes with its next commands.
            if self.batches[index].is_empty() || index == self.core.index() {
                continue;
            }
            let batch = std::mem::take(&mut self.batches[index]);
            let commands = batch.len() as u64;
            #[expect(clippy::cast_possible_truncation, reason = "an engine has at most CORES_MAX cores")]
            if self.port.send(crate::id::CoreId(index as u16), batch).is_err() {
                self.stats.mesh_refused += commands;
            }
        }
        self.port.flush_backlog();
        self.port.ring_doorbells();
    }

    /// Ticks while there is anything to wait for.
    pub(super) fn keep_ticking(&mut self) {
        let house = self.trims.are_due();
        let wanted = !self.timers.is_empty() || self.wakes.is_waiting() || self.accept_later || house;
        let wanted = wanted || self.draining.as_ref().is_some_and(|draining| draining.deadline.is_some());
        let joined = self.coalescer.next_due();
        if (wanted || joined.is_some()) && !self.ticking {
            self.ticking = true;
            let tick = Duration::from_millis(TICK_MS);
            // What is joined leaves when it is due, and not with the tick after that.
            let until_due = joined.map(|due| due.saturating_sub(self.clock.now()).max(Duration::from_millis(1)));
            self.driver.tick(until_due.map_or(tick, |until| until.min(tick)));
        }
    }

    /// The token of a connection's requests.
    pub(super) const fn token(slot: u32) -> Token {
        Connections::<H::Connection>::token(slot)
    }

    /// Whether the pool can spare a buffer for as long as a send takes.
    pub(super) fn can_pin_buffer(&self) -> bool {
        self.driver.buffers_free() * 2 > self.driver.receive_pool_bytes() / RECEIVE_BUFFER_BYTES
    }
}
