//! What the kernel, the peers and the application of one run share.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::driver::{Errno, Shutdown};
use fastrand::Rng;

use super::oracle::Oracle;
use super::plan::{Faults, Plan};
use super::socket::Connection;
use super::trace::Trace;

/// The state of the multishot accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    Unarmed,
    Armed,
    /// The listener is closed.
    Closed,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    /// The chances of the moment: none once the world has come to rest.
    pub(crate) faults: Faults,
    pub(crate) now: Rc<Cell<Duration>>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// One connection for each peer, by its number.
    pub(crate) connections: Vec<Connection>,
    /// Connections that the server has accepted and not closed.
    pub(crate) live: Vec<usize>,
    /// Connections that wait to be accepted.
    pub(crate) backlog: VecDeque<usize>,
    /// Which connection a descriptor stands for.
    pub(crate) descriptors: Vec<Option<usize>>,
    pub(crate) accept: Accept,
    /// When the tick that was asked for is due.
    pub(crate) tick: Option<Duration>,
    pub(crate) ring_failed: bool,
    pub(crate) buffers_free: usize,
    pub(crate) accepted: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

impl World {
    pub(crate) fn new(mut rng: Rng, plan: Plan, trace: Trace) -> Self {
        let topics = |are: fn(&Plan, u8) -> bool| {
            (0..6).filter(|topic| are(&plan, *topic)).fold(0, |all, topic| all | 1 << topic)
        };
        let mut oracle = Oracle::new(plan.cores - 1, plan.inbox_commands, plan.drops());
        oracle.lossy = topics(Plan::is_lossy);
        oracle.conflating = topics(Plan::conflates);
        Self {
            rng: rng.fork(),
            faults: plan.faults,
            plan,
            now: Rc::default(),
            oracle,
            trace,
            connections: Vec::new(),
            live: Vec::new(),
            backlog: VecDeque::new(),
            descriptors: Vec::new(),
            accept: Accept::Unarmed,
            tick: None,
            ring_failed: false,
            buffers_free: 0,
            accepted: 0,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Whether something happens that has so many chances out of 256.
    pub(crate) fn chance(&mut self, chances: u8) -> bool {
        chances > 0 && self.rng.u8(..) < chances
    }

    // ---- The network

    /// A peer connects: the kernel answers by itself, the server hears of it when it accepts.
    pub(crate) fn connect(&mut self) -> usize {
        let peer = self.connections.len();
        let mut connection = Connection::new(self.plan.window, self.plan.send_room);
        if self.accept == Accept::Closed {
            connection.refused = true;
            connection.closed = true;
        } else {
            self.backlog.push_back(peer);
        }
        self.connections.push(connection);
        self.oracle.add_peer();
        peer
    }

    /// Lets up to so many bytes come to the server. Says whether anything came.
    pub(crate) fn deliver(&mut self, peer: usize, bytes: usize) -> bool {
        let connection = &mut self.connections[peer];
        let came = connection.inbound.deliver(bytes, connection.window);
        if came == 0 {
            return false;
        }
        if connection.closed || connection.shut_read {
            // Input for which there is no reader (RFC 9293, section 3.10.7.1; `tcp_rcv_state_process`).
            let lost = self.rng.bool();
            let connection = &mut self.connections[peer];
            let stale = connection.inbound.readable();
            connection.inbound.read(stale);
            connection.refuse(lost);
            if !connection.closed {
                connection.die(Errno(errno::ECONNRESET));
            }
        }
        self.trace.note("arrives", peer, came as u64);
        true
    }

    /// The peer, or the network between, is gone.
    pub(crate) fn reset(&mut self, peer: usize) {
        let errors = [errno::ECONNRESET, errno::ECONNRESET, errno::ETIMEDOUT, errno::EHOSTUNREACH];
        let error = errors[self.rng.usize(..errors.len())];
        self.trace.note("reset", peer, 0);
        self.connections[peer].die(Errno(error));
    }

    /// The kernel thread does the shutdowns that were handed to it, sooner or later.
    pub(crate) fn run_threads(&mut self, all: bool) -> bool {
        let mut done = false;
        for index in 0..self.live.len() {
            let peer = self.live[index];
            let pending = self.connections[peer].shutdown.as_ref().is_some_and(|shutdown| !shutdown.done);
            if pending && (all || self.rng.bool()) {
                self.shut_down(peer);
                done = true;
            }
        }
        done
    }

    fn shut_down(&mut self, peer: usize) {
        let connection = &mut self.connections[peer];
        if let Some(pending) = &mut connection.shutdown {
            connection.shut_read |= pending.how == Shutdown::Both;
            connection.shut_write = true;
            pending.done = true;
        }
    }

    // ---- The descriptors

    /// The lowest free descriptor, as the kernel gives them out; `None` if there are too many.
    pub(crate) fn open_descriptor(&mut self, peer: usize) -> Option<u32> {
        let free = self.descriptors.iter().position(Option::is_none);
        if self.live.len() >= self.plan.descriptors_max {
            return None;
        }
        let descriptor = free.unwrap_or_else(|| {
            self.descriptors.push(None);
            self.descriptors.len() - 1
        });
        self.descriptors[descriptor] = Some(peer);
        let descriptor = u32::try_from(descriptor).expect("few");
        self.connections[peer].descriptor = Some(descriptor);
        self.live.push(peer);
        Some(descriptor)
    }

    /// Closes a connection's descriptor.
    pub(crate) fn close_descriptor(&mut self, peer: usize) {
        let descriptor = self.connections[peer].descriptor.take().expect("it is open");
        self.descriptors[descriptor as usize] = None;
        self.live.retain(|other| *other != peer);
        self.abandon(peer);
    }

    /// The kernel ends a connection that nobody has a descriptor of: with FIN, or with RST if input is
    /// unread (RFC 2525, section 2.17; `tcp_close`).
    pub(crate) fn abandon(&mut self, peer: usize) {
        let lost = self.rng.bool();
        let connection = &mut self.connections[peer];
        connection.closed = true;
        if connection.inbound.readable() > 0 {
            connection.refuse(lost);
        }
    }

    // ---- The kernel, as far as the host can see it

    /// Whether an enter would find something: a request that is ready, a connection to accept, a tick.
    pub(crate) fn has_work(&self) -> bool {
        let tick = self.tick.is_some_and(|due| due <= self.now.get());
        let accept = self.accept == Accept::Armed && !self.backlog.is_empty();
        tick || accept || self.live.iter().any(|peer| self.is_ready(*peer))
    }

    pub(crate) fn is_ready(&self, peer: usize) -> bool {
        let connection = &self.connections[peer];
        connection.shutdown.as_ref().is_some_and(|shutdown| shutdown.done) || connection.is_ready()
    }

    /// Whether nobody is there, and nobody wants to come in.
    pub(crate) fn is_deserted(&self) -> bool {
        self.live.is_empty() && self.backlog.is_empty()
    }

    /// Whether an accept has failed that would succeed now: the worker tries it again with the next tick.
    pub(crate) fn will_accept(&self) -> bool {
        self.accept == Accept::Unarmed && self.live.len() < self.plan.descriptors_max
    }

    /// Whether peer and worker are there and have nothing on its way to the other, so that neither can wait for
    /// the other.
    pub(crate) fn is_quiet(&self, peer: usize) -> bool {
        let connection = &self.connections[peer];
        let nothing_sent = connection.outbound.unread() == 0 && !connection.busy[super::socket::SEND];
        // Of a peer that has gone the worker hears when it next receives, which may be after a deadline.
        let is_there = !connection.dead && !connection.peer_ended;
        is_there && nothing_sent && connection.inbound.unread() == 0 && connection.posted == 0
    }
}

/// Error numbers of Linux, as `errno(3)` lists them.
pub(crate) mod errno {
    pub(crate) const EBADF: i32 = 9;
    pub(crate) const EPIPE: i32 = 32;
    pub(crate) const ECONNABORTED: i32 = 103;
    pub(crate) const ECONNRESET: i32 = 104;
    pub(crate) const ETIMEDOUT: i32 = 110;
    pub(crate) const EHOSTUNREACH: i32 = 113;
}
