//! A kernel for one worker: io_uring on the sockets of [`World`], as a seed drives it.
//!
//! What it keeps to, because the kernel does: requests begin in the order of their submission, at an enter;
//! the completions of one request keep their order, those of different requests have none; a receive takes
//! its buffer before it looks for input (so that it finds the pool empty even if there is nothing to read);
//! what does not fit the completion queue comes one enter later, and a multishot request whose completion does
//! not fit ends with it; one enter runs no more than so many armed requests; data that has come is read before
//! the error or the end behind it; a descriptor is given out again as soon as it is closed.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crore_engine::driver::{Completion, Errno, Outgoing, Shutdown, Socket, Token};
use crore_engine::limits::RECEIVE_BUFFER_BYTES;
use crore_engine::simulation::Buffers;

use super::socket::{PEER, PendingShutdown, SEND, SHUTDOWN, Sending, WATCH, Watch, address_of};
use super::world::{Accept, World, errno};

pub(crate) enum Request {
    Accept,
    StopAccepting,
    Peer(Socket, Token),
    Poll(Socket, Token),
    Receive(Socket, Token),
    ReceiveMultishot(Socket, Token),
    Cancel(Token),
    Send(Socket, Token, Outgoing),
    Shutdown(Socket, Token, Shutdown),
    Close(Socket),
    Tick(Duration),
}

/// A completion, whose it is, and which of its requests it is the last one of.
pub(crate) struct Posted {
    pub(crate) completion: Completion,
    of: Option<(usize, Option<usize>)>,
}

pub(crate) struct Kernel {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) buffers: Buffers,
    /// The submission queue.
    pub(crate) queue: VecDeque<Request>,
    /// The completion queue, and the list behind it.
    completions: VecDeque<Posted>,
    pub(crate) overflow: VecDeque<Posted>,
    /// What the driver has taken out of the completion queue.
    pub(crate) collected: VecDeque<Posted>,
    /// The turn's completions have been taken: what comes next are the commands.
    pub(crate) exhausted: bool,
    /// One-shot receives whose completions the worker has not seen, by their tokens.
    pub(crate) receiving: HashSet<u64>,
    order: Vec<usize>,
}

impl Kernel {
    pub(crate) fn new(world: Rc<RefCell<World>>) -> Self {
        let buffers = Buffers::new(world.borrow().plan.buffers);
        world.borrow_mut().buffers_free = buffers.free();
        Self {
            world,
            buffers,
            queue: VecDeque::new(),
            completions: VecDeque::new(),
            overflow: VecDeque::new(),
            collected: VecDeque::new(),
            exhausted: true,
            receiving: HashSet::new(),
            order: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, request: Request) {
        if self.queue.len() >= self.world.borrow().plan.submission_entries {
            self.enter_once();
        }
        self.queue.push_back(request);
    }

    /// The connection of a socket that the worker has not closed, to begin one of its three requests.
    pub(crate) fn begin(&mut self, socket: Socket, what: usize, name: &'static str) {
        let world = &mut *self.world.borrow_mut();
        let peer = world.descriptors[socket.0 as usize].expect("the descriptor is open");
        world.trace.note(name, peer, 0);
        let connection = &mut world.connections[peer];
        assert!(!connection.closing, "{name} on a socket that is closed");
        assert!(!std::mem::replace(&mut connection.busy[what], true), "two requests at a time: {name}");
    }

    // ---- An enter

    pub(crate) fn enter_once(&mut self) {
        let world = Rc::clone(&self.world);
        let world = &mut *world.borrow_mut();
        while let Some(request) = self.queue.pop_front() {
            self.issue(world, request);
        }
        self.run_armed(world);
        self.accept_waiting(world);
        if world.tick.take_if(|due| *due <= world.now.get()).is_some() {
            self.post(world, Completion::Tick, None);
        }
        while self.completions.len() < world.plan.completion_entries
            && let Some(posted) = self.overflow.pop_front()
        {
            self.completions.push_back(posted);
        }
        self.collected.append(&mut self.completions);
    }

    fn is_full(&self, world: &World) -> bool {
        !self.overflow.is_empty() || self.completions.len() >= world.plan.completion_entries
    }

    fn post(&mut self, world: &mut World, completion: Completion, of: Option<(usize, Option<usize>)>) {
        if let Some((peer, _)) = of {
            world.connections[peer].posted += 1;
        }
        let posted = Posted { completion, of };
        if self.is_full(world) { self.overflow.push_back(posted) } else { self.completions.push_back(posted) }
    }

    fn issue(&mut self, world: &mut World, request: Request) {
        let peer_of = |world: &World, socket: Socket| world.descriptors[socket.0 as usize].expect("open");
        match request {
            Request::Accept if world.accept == Accept::Unarmed => world.accept = Accept::Armed,
            Request::Accept => {}
            Request::StopAccepting => {
                if std::mem::replace(&mut world.accept, Accept::Closed) == Accept::Armed {
                    self.post(world, Completion::AcceptEnded(None), None);
                }
                // The listener goes, and with it whoever waits there.
                while let Some(peer) = world.backlog.pop_front() {
                    world.connections[peer].refused = true;
                    world.connections[peer].closed = true;
                }
            }
            Request::Peer(socket, token) => {
                let peer = peer_of(world, socket);
                let address = Some(address_of(peer));
                self.post(world, Completion::Peer { token, address }, Some((peer, Some(PEER))));
            }
            Request::Poll(socket, token) => {
                let peer = peer_of(world, socket);
                if world.connections[peer].is_readable() || world.chance(world.faults.false_alarm) {
                    let gone = world.connections[peer].at_end();
                    self.post(world, Completion::Readable { token, gone }, Some((peer, Some(WATCH))));
                } else {
                    world.connections[peer].watch = Watch::Poll(token);
                }
            }
            Request::Receive(socket, token) => {
                let peer = peer_of(world, socket);
                self.receive_once(world, peer, token, false);
            }
            Request::ReceiveMultishot(socket, token) => {
                let peer = peer_of(world, socket);
                world.connections[peer].watch = Watch::Multishot { token, cancelled: false };
                self.run_multishot(world, peer);
            }
            Request::Cancel(wanted) => {
                for index in 0..world.live.len() {
                    let connection = &mut world.connections[world.live[index]];
                    if let Watch::Multishot { token, cancelled } = &mut connection.watch
                        && *token == wanted
                    {
                        *cancelled = true;
                    }
                }
            }
            Request::Send(socket, token, outgoing) => {
                let peer = peer_of(world, socket);
                world.connections[peer].sending = Some(Sending { token, outgoing, done: 0 });
                if world.connections[peer].is_writable() {
                    self.run_send(world, peer);
                }
            }
            Request::Shutdown(socket, token, how) => {
                let peer = peer_of(world, socket);
                world.connections[peer].shutdown = Some(PendingShutdown { token, how, done: false });
            }
            Request::Close(socket) => {
                let peer = peer_of(world, socket);
                world.close_descriptor(peer);
            }
            Request::Tick(after) => {
                assert!(world.tick.is_none(), "one tick at a time");
                world.tick = Some(world.now.get() + after);
            }
        }
    }

    /// Runs armed requests that are ready, of the connections in any order, and no more than one enter does.
    fn run_armed(&mut self, world: &mut World) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(world.live.iter().filter(|peer| world.is_ready(**peer)));
        world.rng.shuffle(&mut order);
        for &peer in order.iter().take(world.plan.reap) {
            let send_first = world.rng.bool();
            if send_first {
                self.run_send_if_ready(world, peer);
            }
            let connection = &mut world.connections[peer];
            match connection.watch {
                Watch::Poll(token) if connection.is_readable() => {
                    connection.watch = Watch::Nothing;
                    let gone = connection.at_end();
                    self.post(world, Completion::Readable { token, gone }, Some((peer, Some(WATCH))));
                }
                Watch::Multishot { .. } => self.run_multishot(world, peer),
                _ => {}
            }
            if !send_first {
                self.run_send_if_ready(world, peer);
            }
            let connection = &mut world.connections[peer];
            if let Some(PendingShutdown { token, .. }) = connection.shutdown.take_if(|shutdown| shutdown.done) {
                self.post(world, Completion::ShutDown(token), Some((peer, Some(SHUTDOWN))));
            }
        }
        self.order = order;
    }

    /// The ring takes no more requests. What the worker closes is closed all the same, and what it has not
    /// been told of, when the ring goes.
    pub(crate) fn fail(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let requested = self.queue.drain(..).filter_map(|request| match request {
            Request::Close(socket) => Some(socket),
            _ => None,
        });
        let unseen =
            self.collected.drain(..).chain(self.overflow.drain(..)).filter_map(|posted| match posted.completion {
                Completion::Accepted(socket) => Some(socket),
                _ => None,
            });
        for socket in requested.chain(unseen) {
            let peer = world.descriptors[socket.0 as usize].expect("open");
            world.close_descriptor(peer);
        }
    }

    // ---- Receiving

    /// One receive: a message, the end, or why there is neither. Says whether it is to go on.
    fn receive_once(&mut self, world: &mut World, peer: usize, token: Token, multishot: bool) -> bool {
        let ended = |errno| Completion::ReceiveEnded(token, errno);
        let last = Some((peer, Some(WATCH)));
        let Some(buffer) = self.buffers.take() else {
            self.post(world, ended(Some(Errno::NO_BUFFERS)), last);
            return false;
        };
        let connection = &mut world.connections[peer];
        if connection.inbound.readable() == 0 {
            self.buffers.release(buffer);
            let error = connection.error.take();
            let completion =
                if error.is_some() || connection.at_end() { ended(error) } else { ended(Some(Errno::AGAIN)) };
            self.post(world, completion, last);
            return false;
        }
        let bytes = connection.inbound.read(RECEIVE_BUFFER_BYTES);
        self.buffers.bytes(&buffer)[..bytes.len()].copy_from_slice(bytes);
        world.trace.bytes(bytes);
        let bytes = u32::try_from(bytes.len()).expect("no more than a buffer");
        world.buffers_free = self.buffers.free();
        let nonempty = connection.inbound.readable() > 0;
        let armed = multishot && !self.is_full(world) && !world.chance(world.faults.multishot_ends);
        let of = Some((peer, (!armed).then_some(WATCH)));
        self.post(world, Completion::Received { token, buffer, bytes, nonempty, armed }, of);
        armed
    }

    fn run_multishot(&mut self, world: &mut World, peer: usize) {
        while let Watch::Multishot { token, cancelled } = world.connections[peer].watch {
            let goes_on = if cancelled {
                self.post(world, Completion::ReceiveEnded(token, Some(Errno::CANCELED)), Some((peer, Some(WATCH))));
                false
            } else if world.connections[peer].is_readable() {
                self.receive_once(world, peer, token, true)
            } else {
                return;
            };
            if !goes_on {
                world.connections[peer].watch = Watch::Nothing;
            }
        }
    }

    // ---- Sending

    fn run_send_if_ready(&mut self, world: &mut World, peer: usize) {
        if world.connections[peer].is_writable() {
            self.run_send(world, peer);
        }
    }

    fn run_send(&mut self, world: &mut World, peer: usize) {
        let interrupted = world.chance(world.faults.short_send);
        let connection = &mut world.connections[peer];
        let Some(Sending { token, outgoing, done }) = connection.sending.take() else { return };
        let of = Some((peer, Some(SEND)));
        if connection.dead || connection.shut_write {
            // Of what has left the caller hears first, of the error with its next send.
            let error = match connection.error {
                Some(error) if done == 0 => connection.error.take().map_or(error, |error| error),
                _ => Errno(errno::EPIPE),
            };
            let result = if done > 0 { Ok(count(done)) } else { Err(error) };
            self.post(world, Completion::Sent { token, result, outgoing }, of);
            return;
        }
        let bytes = match &outgoing {
            Outgoing::Received { buffer, start, end } => &self.buffers.bytes(buffer)[*start as usize..*end as usize],
            Outgoing::Owned { bytes, start } => &bytes[*start..],
            Outgoing::Shared { bytes, start } => &bytes.as_slice()[*start..],
        };
        let length = bytes.len();
        let mut more = (length - done).min(connection.room());
        if interrupted {
            more = world.rng.usize(1..=more);
        }
        connection.outbound.write(&bytes[done..done + more]);
        world.trace.bytes(&bytes[done..done + more]);
        world.trace.note("leaves", peer, more as u64);
        let done = done + more;
        if done == length || interrupted {
            self.post(world, Completion::Sent { token, result: Ok(count(done)), outgoing }, of);
        } else {
            connection.sending = Some(Sending { token, outgoing, done });
        }
    }

    // ---- Accepting

    fn accept_waiting(&mut self, world: &mut World) {
        while world.accept == Accept::Armed
            && let Some(peer) = world.backlog.pop_front()
        {
            if world.chance(world.faults.accept_fails) {
                // The peer has gone before it was accepted (`accept(2)`: ECONNABORTED).
                world.accept = Accept::Unarmed;
                world.connections[peer].die(Errno(errno::ECONNRESET));
                world.connections[peer].closed = true;
                world.oracle.connections[peer].reasons.lost = true;
                self.post(world, Completion::AcceptEnded(Some(Errno(errno::ECONNABORTED))), None);
                return;
            }
            let Some(descriptor) = world.open_descriptor(peer) else {
                world.accept = Accept::Unarmed;
                if world.plan.direct {
                    // The connection is taken before a place is looked for, and goes when there is none.
                    world.oracle.connections[peer].reasons.refused = true;
                    world.abandon(peer);
                } else {
                    world.backlog.push_front(peer);
                }
                let error = if world.plan.direct { Errno::TABLE_FULL } else { Errno::TOO_MANY };
                self.post(world, Completion::AcceptEnded(Some(error)), None);
                return;
            };
            let ends = self.is_full(world) || world.chance(world.faults.accept_ends);
            self.post(world, Completion::Accepted(Socket(descriptor)), Some((peer, None)));
            if ends {
                world.accept = Accept::Unarmed;
                self.post(world, Completion::AcceptEnded(None), None);
            }
        }
    }

    /// The worker has seen a completion.
    pub(crate) fn note_seen(&mut self, posted: &Posted) {
        let world = &mut *self.world.borrow_mut();
        let (what, number) = match &posted.completion {
            Completion::Accepted(socket) => ("accepted", u64::from(socket.0)),
            Completion::AcceptEnded(errno) => ("accept ended", errno_number(*errno)),
            Completion::Readable { .. } => ("readable", 0),
            Completion::Received { bytes, .. } => ("received", u64::from(*bytes)),
            Completion::ReceiveEnded(_, errno) => ("receive ended", errno_number(*errno)),
            Completion::Sent { result, .. } => ("sent", result.map_or_else(|e| errno_number(Some(e)), u64::from)),
            Completion::ShutDown(_) => ("shut down", 0),
            Completion::Peer { .. } => ("peer", 0),
            Completion::Tick => ("tick", 0),
        };
        let peer = posted.of.map_or(usize::MAX, |(peer, _)| peer);
        world.trace.note(what, peer, number);
        match &posted.completion {
            Completion::Accepted(_) => world.accepted += 1,
            Completion::Received { token, bytes, .. } => {
                self.receiving.remove(&token.value());
                world.bytes_received += u64::from(*bytes);
            }
            Completion::ReceiveEnded(token, _) => {
                self.receiving.remove(&token.value());
            }
            Completion::Sent { result: Ok(bytes), .. } => world.bytes_sent += u64::from(*bytes),
            _ => {}
        }
        if let Some((peer, last)) = posted.of {
            let connection = &mut world.connections[peer];
            connection.posted -= 1;
            if let Some(request) = last {
                connection.busy[request] = false;
            }
        }
    }
}

fn errno_number(errno: Option<Errno>) -> u64 {
    errno.map_or(0, |errno| u64::from(errno.0.unsigned_abs()) << 32)
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("less than 4 GiB")
}
