//! A kernel whose connections are numbers, and the verbs of a worker on it. It is as lean as it can be, so that what
//! is measured is the worker: a client is 12 bytes, nothing is allocated for it, and its requests complete at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::driver::{BufferId, Completion, Driver, Errno, Outgoing, PeerAddress, Shutdown, Socket, Token};
use crore_engine::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crore_engine::simulation::Buffers;
use crore_tests::system::allocated_bytes;

use super::client::{Client, Heard, Says};

/// `errno(3)`.
const ECONNRESET: i32 = 104;

/// Receive buffers: one is in use at a time.
const BUFFERS: u16 = 4;

/// Sends between two looks at how much is allocated, within a turn.
const SENDS_PER_LOOK: usize = 256;

/// A request that completes as soon as it is asked for.
enum Ready {
    Readable(u32),
    Receive(u32),
}

/// What is counted for all clients together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Upgrades that were answered as they should be.
    pub(crate) upgrades: usize,
    /// Messages that have come where they should.
    pub(crate) messages: usize,
    /// Close frames of a server that goes away.
    pub(crate) closes: usize,
    /// Sockets that are accepted and not closed.
    pub(crate) sockets: usize,
    /// Receive buffers that the worker holds.
    pub(crate) buffers: usize,
    /// The most completions that a turn has taken.
    pub(crate) completions_of_a_turn: usize,
    /// The most bytes that were allocated at a time.
    pub(crate) peak_bytes: usize,
}

/// The kernel and all clients.
pub(crate) struct World {
    pub(crate) clients: Vec<Client>,
    pub(crate) counts: Counts,
    /// Clients that were pinged and have not answered.
    pub(crate) pinged: Vec<u32>,
    connecting: Range<u32>,
    sent: VecDeque<(Token, Outgoing)>,
    ready: VecDeque<Ready>,
    now: Rc<Cell<Duration>>,
    tick_at: Option<Duration>,
    completions: usize,
    sends: usize,
}

impl World {
    /// Clients that have not connected, with room for all that may be under way at a time.
    pub(crate) fn new(clients: u32, topic_of: fn(u32) -> u32, now: &Rc<Cell<Duration>>) -> Self {
        let count = clients as usize;
        Self {
            clients: (0..clients).map(|number| Client::new(topic_of(number))).collect(),
            counts: Counts::default(),
            pinged: Vec::with_capacity(count),
            connecting: 0..0,
            sent: VecDeque::with_capacity(count),
            ready: VecDeque::with_capacity(count),
            now: Rc::clone(now),
            tick_at: None,
            completions: 0,
            sends: 0,
        }
    }

    /// All clients connect and send their requests.
    pub(crate) fn connect_all(&mut self) {
        self.connecting = 0..u32::try_from(self.clients.len()).expect("it was made from a u32");
    }

    /// Every client says this.
    pub(crate) fn all_say(&mut self, says: Says) {
        for socket in 0..self.clients.len() {
            self.say(u32::try_from(socket).expect("it was made from a u32"), says);
        }
    }

    /// Those that were pinged answer.
    pub(crate) fn answer_pings(&mut self) {
        let mut pinged = std::mem::take(&mut self.pinged);
        for socket in pinged.drain(..) {
            self.say(socket, Says::Pong);
        }
        self.pinged = pinged;
    }

    fn say(&mut self, socket: u32, says: Says) {
        let client = &mut self.clients[socket as usize];
        client.says = says;
        if std::mem::take(&mut client.polled) {
            self.ready.push_back(Ready::Readable(socket));
        }
    }

    /// Forgets the largest values so far.
    pub(crate) fn reset_largest(&mut self) {
        self.counts.completions_of_a_turn = 0;
        self.counts.peak_bytes = 0;
    }

    fn look(&mut self) {
        self.counts.peak_bytes = self.counts.peak_bytes.max(allocated_bytes());
    }

    fn next_completion(&mut self, buffers: &mut Buffers) -> Option<Completion> {
        if self.tick_at.take_if(|at| *at <= self.now.get()).is_some() {
            return Some(Completion::Tick);
        }
        if let Some((token, outgoing)) = self.sent.pop_front() {
            let bytes = u32::try_from(outgoing.len()).expect("a few bytes");
            return Some(Completion::Sent { token, result: Ok(bytes), outgoing });
        }
        match self.ready.pop_front() {
            Some(Ready::Readable(socket)) => {
                let client = &self.clients[socket as usize];
                Some(Completion::Readable { token: client.token(), gone: client.says == Says::Reset })
            }
            Some(Ready::Receive(socket)) => Some(self.receive(socket, buffers)),
            None => self.connecting.next().map(|socket| {
                let client = &mut self.clients[socket as usize];
                client.connect();
                self.counts.sockets += 1;
                Completion::Accepted(Socket(socket))
            }),
        }
    }

    fn receive(&mut self, socket: u32, buffers: &mut Buffers) -> Completion {
        let client = &mut self.clients[socket as usize];
        let token = client.token();
        match std::mem::replace(&mut client.says, Says::Nothing) {
            Says::Nothing => Completion::ReceiveEnded(token, Some(Errno::AGAIN)),
            Says::Reset => Completion::ReceiveEnded(token, Some(Errno(ECONNRESET))),
            says => {
                let buffer = buffers.take().expect("one is in use at a time");
                let bytes = client.write(says, self.now.get(), buffers.bytes(&buffer));
                self.counts.buffers += 1;
                let bytes = u32::try_from(bytes).expect("less than a buffer");
                Completion::Received { token, buffer, bytes, nonempty: false, armed: false }
            }
        }
    }

    fn deliver(&mut self, socket: u32, bytes: &[u8]) {
        match self.clients[socket as usize].hear(bytes, self.now.get()) {
            Heard::Upgraded => self.counts.upgrades += 1,
            Heard::Message => self.counts.messages += 1,
            Heard::Ping => self.pinged.push(socket),
            Heard::Close => {
                self.counts.closes += 1;
                self.say(socket, Says::Close);
            }
        }
    }
}

/// The worker's end of the world.
pub(crate) struct Kernel {
    world: Rc<RefCell<World>>,
    buffers: Buffers,
}

impl Kernel {
    pub(crate) fn new(world: &Rc<RefCell<World>>) -> Self {
        Self { world: Rc::clone(world), buffers: Buffers::new(BUFFERS) }
    }
}

impl Driver for Kernel {
    fn accept(&mut self) {}

    fn stop_accepting(&mut self) {}

    fn peer_address(&mut self, _: Socket, _: Token) -> PeerAddress {
        PeerAddress::Known(None)
    }

    fn poll(&mut self, Socket(socket): Socket, token: Token) {
        let world = &mut *self.world.borrow_mut();
        let client = &mut world.clients[socket as usize];
        client.set_token(token);
        if client.says == Says::Nothing {
            client.polled = true;
        } else {
            world.ready.push_back(Ready::Readable(socket));
        }
    }

    fn receive(&mut self, Socket(socket): Socket, token: Token) {
        let world = &mut *self.world.borrow_mut();
        world.clients[socket as usize].set_token(token);
        world.ready.push_back(Ready::Receive(socket));
    }

    fn receive_multishot(&mut self, _: Socket, _: Token) {
        unreachable!("nobody says that much");
    }

    fn cancel(&mut self, _: Token) {
        unreachable!("there is no multishot receive");
    }

    fn send(&mut self, Socket(socket): Socket, token: Token, outgoing: Outgoing) {
        let world = &mut *self.world.borrow_mut();
        match &outgoing {
            Outgoing::Owned { bytes, start } => world.deliver(socket, &bytes[*start..]),
            Outgoing::Shared { bytes, start } => world.deliver(socket, &bytes.as_slice()[*start..]),
            Outgoing::Received { .. } => unreachable!("nothing is echoed"),
        }
        world.sent.push_back((token, outgoing));
        world.sends += 1;
        if world.sends.is_multiple_of(SENDS_PER_LOOK) {
            world.look();
        }
    }

    fn shutdown(&mut self, Socket(socket): Socket, _: Token, _: Shutdown) -> bool {
        // What is armed on the socket ends.
        self.world.borrow_mut().say(socket, Says::Reset);
        false
    }

    fn close(&mut self, Socket(socket): Socket) {
        if std::thread::panicking() {
            // A worker that unwinds closes what it has, and a second panic would hide the first.
            return;
        }
        let world = &mut *self.world.borrow_mut();
        world.clients[socket as usize].close();
        world.counts.sockets -= 1;
    }

    fn tick(&mut self, after: Duration) {
        let world = &mut *self.world.borrow_mut();
        world.tick_at = Some(world.now.get() + after);
    }

    fn enter(&mut self) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        world.completions = 0;
        world.look();
        Ok(())
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let world = &mut *self.world.borrow_mut();
        let completion = world.next_completion(&mut self.buffers)?;
        world.completions += 1;
        world.counts.completions_of_a_turn = world.counts.completions_of_a_turn.max(world.completions);
        Some(completion)
    }

    fn has_queued(&self) -> bool {
        false
    }

    fn has_completions(&mut self) -> bool {
        let world = self.world.borrow();
        let due = world.tick_at.is_some_and(|at| at <= world.now.get());
        due || !world.connecting.is_empty() || self.is_behind()
    }

    fn is_behind(&self) -> bool {
        let world = self.world.borrow();
        !world.sent.is_empty() || !world.ready.is_empty()
    }

    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        self.buffers.bytes(buffer)
    }

    fn release(&mut self, buffer: BufferId) {
        self.buffers.release(buffer);
        self.world.borrow_mut().counts.buffers -= 1;
    }

    fn buffers_free(&self) -> usize {
        // As a share of the usual pool.
        self.buffers.free() * usize::from(RECEIVE_BUFFERS) / usize::from(BUFFERS)
    }

    fn receive_pool_bytes(&self) -> usize {
        usize::from(BUFFERS) * RECEIVE_BUFFER_BYTES
    }

    fn trim(&mut self) {}
}
