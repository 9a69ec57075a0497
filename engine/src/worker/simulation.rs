//! A worker on a fake kernel that a seed drives: short sends, empty pools, multishot receives that end
//! for no reason, completions in any order, resets at any point. `CRORE_TEST_SEED` repeats a run,
//! `CRORE_TEST_SEEDS` says how many seeds to try.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use fastrand::Rng;

use super::{Progress, Worker, WorkerParts};
use crate::driver::{BufferId, Completion, Driver, Errno, Outgoing, Shutdown, Socket, Token};
use crate::handle::{Command, CoreLink, EngineHandle};
use crate::handler::{Closed, Context, Handler};
use crate::id::CoreId;
use crate::limits::{Limits, RECEIVE_BUFFER_BYTES};
use crate::mesh::{self, Capacity};
use crate::message::{Message, MessageKind};
use crate::protocol::deflate::DeflateAgreement;
use crate::protocol::frame::{append_frame, append_masked_fragment};
use crate::protocol::{Decoder, DecoderConfig, Event, Input, Opcode, PartialPool, Role};
use crate::stats::CoreStats;
use crate::topics::Interest;

/// Small enough to run out: the pool is empty now and then.
const BUFFERS: u16 = 6;

#[derive(Default)]
struct FakeSocket {
    /// What the peer has sent and nobody has read.
    inbound: VecDeque<u8>,
    /// What the peer has received.
    outbound: Vec<u8>,
    /// The peer sends no more.
    ended: bool,
    reset: bool,
    shut: bool,
    closed: bool,
    poll: Option<Token>,
    receive: Option<Token>,
    multishot: Option<Token>,
    cancelled: bool,
    send: Option<(Token, Outgoing)>,
    shutdown: Option<(Token, Shutdown)>,
}

impl FakeSocket {
    fn is_readable(&self) -> bool {
        !self.inbound.is_empty() || self.ended || self.reset || self.shut
    }
}

/// What both the test (the peers) and the driver see.
struct World {
    rng: Rng,
    sockets: Vec<FakeSocket>,
    backlog: VecDeque<Socket>,
    accepting: bool,
    /// Peers read more slowly than they speak.
    slow: bool,
}

struct FakeKernel {
    world: Rc<RefCell<World>>,
    completions: Vec<Completion>,
    buffers: Vec<Box<[u8]>>,
    free: Vec<u16>,
    queued: bool,
    ticks: usize,
}

impl FakeKernel {
    fn new(world: Rc<RefCell<World>>) -> Self {
        let buffers = (0..BUFFERS).map(|_| vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice()).collect();
        Self { world, completions: Vec::new(), buffers, free: (0..BUFFERS).collect(), queued: false, ticks: 0 }
    }

    /// One receive: data, nothing, the end, or no buffer for it.
    fn take(&mut self, index: usize, token: Token, multishot: bool) -> Option<(Completion, bool)> {
        let mut world = self.world.borrow_mut();
        let World { rng, sockets, .. } = &mut *world;
        let socket = &mut sockets[index];
        if socket.reset {
            return Some((Completion::ReceiveEnded(token, Some(Errno(libc::ECONNRESET))), true));
        }
        if socket.inbound.is_empty() || socket.shut {
            return match (socket.ended || socket.shut, multishot) {
                (true, _) => Some((Completion::ReceiveEnded(token, None), true)),
                (false, true) => None,
                (false, false) => Some((Completion::ReceiveEnded(token, Some(Errno::AGAIN)), true)),
            };
        }
        let Some(id) = self.free.pop() else {
            return Some((Completion::ReceiveEnded(token, Some(Errno::NO_BUFFERS)), true));
        };
        let bytes = rng.usize(1..=socket.inbound.len()).min(RECEIVE_BUFFER_BYTES);
        for (target, byte) in self.buffers[id as usize].iter_mut().zip(socket.inbound.drain(..bytes)) {
            *target = byte;
        }
        // A multishot receive may end with any completion: it is for the worker to arm it again.
        let armed = multishot && rng.u8(..) > 20;
        let nonempty = !multishot && !socket.inbound.is_empty() && rng.bool();
        let bytes = u32::try_from(bytes).unwrap();
        Some((Completion::Received { token, buffer: BufferId(id), bytes, nonempty, armed }, !armed))
    }

    fn progress(&mut self, index: usize) {
        let world = Rc::clone(&self.world);
        let chance = world.borrow_mut().rng.u8(..);
        // Nothing says that a request is dealt with at once.
        if chance < 60 {
            return;
        }
        let take = |kernel: &mut Self, token: Token, multishot: bool| {
            let taken = kernel.take(index, token, multishot);
            taken.map(|(completion, ends)| {
                kernel.completions.push(completion);
                ends
            })
        };
        let token = world.borrow_mut().sockets[index].receive.take();
        if let Some(token) = token {
            assert!(take(self, token, false).is_some(), "a receive that does not wait always ends");
        }
        let token = world.borrow().sockets[index].multishot;
        if let Some(token) = token {
            let cancelled = world.borrow().sockets[index].cancelled;
            let ended = if cancelled {
                self.completions.push(Completion::ReceiveEnded(token, Some(Errno::CANCELED)));
                true
            } else {
                take(self, token, true).unwrap_or(false)
            };
            if ended {
                let socket = &mut world.borrow_mut().sockets[index];
                (socket.multishot, socket.cancelled) = (None, false);
            }
        }
        let mut world = world.borrow_mut();
        let World { rng, sockets, slow, .. } = &mut *world;
        let socket = &mut sockets[index];
        if socket.is_readable()
            && let Some(token) = socket.poll.take()
        {
            self.completions.push(Completion::Readable(token));
        }
        let stuck = *slow && rng.u8(..) < 230;
        if let Some((token, outgoing)) = socket.send.take_if(|_| !stuck || socket.reset || socket.shut) {
            let result = if socket.reset || socket.shut {
                Err(Errno(libc::EPIPE))
            } else {
                let count = if rng.bool() { outgoing.len() } else { rng.usize(1..=outgoing.len()) };
                let bytes = match &outgoing {
                    Outgoing::Received { buffer, start, end } => {
                        &self.buffers[buffer.0 as usize][*start as usize..*end as usize]
                    }
                    Outgoing::Owned { bytes, start } => &bytes[*start..],
                    Outgoing::Shared { bytes, start } => &bytes.as_slice()[*start..],
                };
                socket.outbound.extend_from_slice(&bytes[..count]);
                Ok(u32::try_from(count).unwrap())
            };
            self.completions.push(Completion::Sent { token, result, outgoing });
        }
        if let Some((token, how)) = socket.shutdown.take() {
            socket.shut |= how == Shutdown::Both;
            self.completions.push(Completion::ShutDown(token));
        }
    }
}

impl Driver for FakeKernel {
    fn accept(&mut self) {
        self.world.borrow_mut().accepting = true;
    }

    fn stop_accepting(&mut self) {
        self.world.borrow_mut().accepting = false;
    }

    fn poll(&mut self, socket: Socket, token: Token) {
        let socket = &mut self.world.borrow_mut().sockets[socket.0 as usize];
        assert!(!socket.closed && socket.poll.is_none() && socket.receive.is_none() && socket.multishot.is_none());
        socket.poll = Some(token);
        self.queued = true;
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        let socket = &mut self.world.borrow_mut().sockets[socket.0 as usize];
        assert!(!socket.closed && socket.poll.is_none() && socket.receive.is_none() && socket.multishot.is_none());
        socket.receive = Some(token);
        self.queued = true;
    }

    fn receive_multishot(&mut self, socket: Socket, token: Token) {
        let socket = &mut self.world.borrow_mut().sockets[socket.0 as usize];
        assert!(!socket.closed && socket.poll.is_none() && socket.receive.is_none() && socket.multishot.is_none());
        socket.multishot = Some(token);
        self.queued = true;
    }

    fn cancel(&mut self, token: Token) {
        for socket in &mut self.world.borrow_mut().sockets {
            socket.cancelled |= socket.multishot == Some(token);
        }
    }

    fn send(&mut self, socket: Socket, token: Token, outgoing: Outgoing) {
        let socket = &mut self.world.borrow_mut().sockets[socket.0 as usize];
        assert!(!socket.closed && socket.send.is_none(), "two sends on one socket");
        assert!(!outgoing.is_empty(), "an empty send");
        socket.send = Some((token, outgoing));
        self.queued = true;
    }

    fn shutdown(&mut self, socket: Socket, token: Token, how: Shutdown) -> bool {
        let mut world = self.world.borrow_mut();
        let pending = world.rng.bool();
        let socket = &mut world.sockets[socket.0 as usize];
        assert!(!socket.closed && socket.shutdown.is_none());
        self.queued = true;
        if pending {
            socket.shutdown = Some((token, how));
        } else {
            socket.shut |= how == Shutdown::Both;
        }
        pending
    }

    fn close(&mut self, socket: Socket) {
        if std::thread::panicking() {
            // A worker that unwinds closes what it has, whatever is in flight.
            return;
        }
        let socket = &mut self.world.borrow_mut().sockets[socket.0 as usize];
        let in_flight = socket.poll.is_some() || socket.receive.is_some() || socket.multishot.is_some();
        assert!(!in_flight && socket.send.is_none() && socket.shutdown.is_none(), "closed under a request");
        assert!(!std::mem::replace(&mut socket.closed, true), "closed twice");
    }

    fn tick(&mut self, _: Duration) {
        self.ticks += 1;
        assert!(self.ticks == 1, "one tick at a time");
    }

    fn enter(&mut self) -> io::Result<()> {
        self.queued = false;
        let count = {
            let mut world = self.world.borrow_mut();
            if world.accepting {
                while let Some(socket) = world.backlog.pop_front() {
                    self.completions.push(Completion::Accepted(socket));
                }
                if world.rng.u8(..) < 20 {
                    world.accepting = false;
                    self.completions.push(Completion::AcceptEnded(None));
                }
            }
            world.sockets.len()
        };
        for index in 0..count {
            self.progress(index);
        }
        if std::mem::take(&mut self.ticks) > 0 {
            self.completions.push(Completion::Tick);
        }
        // Completions of one connection keep their order; those of different ones need not, but to
        // keep that apart is not worth it: any order that starts elsewhere will do.
        let mut world = self.world.borrow_mut();
        if !self.completions.is_empty() && world.rng.bool() {
            let start = world.rng.usize(..self.completions.len());
            let socket_of = |completion: &Completion| match completion {
                Completion::Received { token, .. } | Completion::ReceiveEnded(token, _) => Some(token.value()),
                _ => None,
            };
            let distinct = socket_of(&self.completions[start]);
            if distinct.is_none() {
                let moved = self.completions.remove(start);
                self.completions.push(moved);
            }
        }
        Ok(())
    }

    fn next_completion(&mut self) -> Option<Completion> {
        (!self.completions.is_empty()).then(|| self.completions.remove(0))
    }

    fn has_queued(&self) -> bool {
        self.queued
    }

    fn has_completions(&mut self) -> bool {
        !self.completions.is_empty()
    }

    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        assert!(!self.free.contains(&buffer.0), "a buffer that nobody holds");
        &mut self.buffers[buffer.0 as usize]
    }

    fn release(&mut self, buffer: BufferId) {
        assert!(!self.free.contains(&buffer.0), "released twice");
        self.free.push(buffer.0);
    }

    fn buffers_free(&self) -> usize {
        // As a share of the usual pool, so that echoes are sent in place here, too.
        self.free.len() * usize::from(crate::limits::RECEIVE_BUFFERS / BUFFERS)
    }
}

/// Echoes binary messages, publishes text, and counts opens and closes.
#[derive(Default)]
struct App {
    open: Rc<RefCell<i64>>,
}

impl Handler for App {
    type Connection = u32;

    fn on_open(&mut self, context: &mut Context<'_>, connection: &mut u32) {
        *connection += 1;
        *self.open.borrow_mut() += 1;
        context.subscribe("all").unwrap();
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut u32, message: Message<'_>) {
        match message.kind() {
            MessageKind::Binary => context.send(message),
            MessageKind::Text => context.publish("all", message),
        }
    }

    fn on_close(&mut self, _: &mut Context<'_>, connection: &mut u32, _: Closed<'_>) {
        assert_eq!(*connection, 1, "opened once, closed once");
        *connection += 1;
        *self.open.borrow_mut() -= 1;
    }
}

/// What a peer has said and what it must hear.
#[derive(Default)]
struct Peer {
    echoes: Vec<Vec<u8>>,
    gone: bool,
    closed: bool,
}

fn worker(world: &Rc<RefCell<World>>, limits: Limits) -> (Worker<FakeKernel, App>, Rc<RefCell<i64>>) {
    let capacity = Capacity { lane_entries: 4, backlog_entries_max: 4 };
    let mut ports = mesh::build(1, capacity).unwrap();
    let port = ports.pop().unwrap();
    let interest = Arc::new(Interest::new(1));
    let (sender, commands) = bounded::<Command>(16);
    let stats = Arc::new(CoreStats::default());
    let link = CoreLink { commands: sender, stats: Arc::clone(&stats) };
    let handle = EngineHandle::new(vec![link], Arc::clone(port.doorbells()), Arc::clone(&interest));
    let app = App::default();
    let open = Rc::clone(&app.open);
    let parts = WorkerParts {
        core: CoreId(0),
        driver: FakeKernel::new(Rc::clone(world)),
        handler: app,
        limits,
        compression: None,
        connections_max: 64,
        handle,
        commands,
        port,
        interest,
        stats,
    };
    (Worker::new(parts), open)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Appends a message as a client may send it: whole, or in fragments with pings between them.
fn append_message(rng: &mut Rng, out: &mut VecDeque<u8>, opcode: Opcode, payload: &[u8]) {
    let mut bytes = Vec::new();
    let fragments = if rng.u8(..) < 60 { rng.usize(2..5) } else { 1 };
    let size = payload.len().div_ceil(fragments).max(1);
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        append_masked_fragment(&mut bytes, opcode, index + 1 == pieces.len(), piece, rng.u32(..).to_be_bytes());
        if rng.u8(..) < 30 {
            append_masked_fragment(&mut bytes, Opcode::Ping, true, b"still there?", rng.u32(..).to_be_bytes());
        }
    }
    out.extend(bytes);
}

/// What a peer has heard: echoes, and publications.
fn heard(outbound: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let Some(head) = outbound.windows(4).position(|end| end == b"\r\n\r\n") else { return Default::default() };
    let mut bytes = outbound[head + 4..].to_vec();
    let config = DecoderConfig {
        role: Role::Client,
        message_bytes_max: 1 << 20,
        pieces_bytes_max: 0,
        fragments_max: 10,
        deflate: DeflateAgreement::NONE,
    };
    let (mut decoder, mut pool, mut input) = (Decoder::default(), PartialPool::new(), Input::new(&mut bytes));
    let (mut echoes, mut publications) = (Vec::new(), Vec::new());
    while let Some(event) = decoder.next(&config, &mut pool, &mut input).expect("the server keeps to the protocol") {
        if let Event::Message { kind, payload, .. } = event {
            if kind == MessageKind::Binary { &mut echoes } else { &mut publications }.push(payload.to_vec());
        }
    }
    (echoes, publications)
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    // Every other world is a slow one, in which peers say only what comes back: of that nothing is dropped,
    // however little room there is.
    let slow = seed % 2 == 1;
    let world = World { rng: rng.fork(), sockets: Vec::new(), backlog: VecDeque::new(), accepting: false, slow };
    let world = Rc::new(RefCell::new(world));
    // The half at which a connection is paused, one more receive, and the message whose end it brings.
    let room = 4 * RECEIVE_BUFFER_BYTES;
    let narrow = Limits { outbox_bytes_max: room, ..Limits::default() };
    let (mut worker, open) = worker(&world, if slow { narrow } else { Limits::default() });
    let mut peers: Vec<Peer> = Vec::new();
    let mut published = 0_u32;
    for step in 0..400 {
        let mut now = world.borrow_mut();
        if peers.len() < 12 && step < 300 && rng.u8(..) < 40 {
            let socket = Socket(u32::try_from(now.sockets.len()).unwrap());
            now.sockets.push(FakeSocket { inbound: REQUEST.iter().copied().collect(), ..FakeSocket::default() });
            now.backlog.push_back(socket);
            peers.push(Peer::default());
        }
        if !peers.is_empty() && step < 300 {
            let index = rng.usize(..peers.len());
            let (peer, socket) = (&mut peers[index], &mut now.sockets[index]);
            match rng.u8(..) {
                _ if peer.gone || peer.closed => {}
                0..=3 => {
                    (socket.reset, peer.gone) = (true, true);
                }
                4..=6 => {
                    (socket.ended, peer.gone) = (true, true);
                }
                7..=9 => {
                    append_message(&mut rng, &mut socket.inbound, Opcode::Close, &[]);
                    peer.closed = true;
                }
                10..=60 if !slow => {
                    append_message(&mut rng, &mut socket.inbound, Opcode::Text, published.to_string().as_bytes());
                    published += 1;
                }
                _ => {
                    for _ in 0..rng.u8(1..6) {
                        let longest = if slow { room / 8 } else { 40_000 };
                        let length = if rng.u8(..) < 20 { rng.usize(..longest) } else { rng.usize(..300) };
                        let payload: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
                        append_message(&mut rng, &mut socket.inbound, Opcode::Binary, &payload);
                        peer.echoes.push(payload);
                    }
                }
            }
        }
        drop(now);
        worker.turn().unwrap();
    }
    for _ in 0..20_000 {
        worker.turn().unwrap();
    }
    {
        let world = world.borrow();
        let mut order: Option<Vec<Vec<u8>>> = None;
        for (index, (peer, socket)) in peers.iter().zip(&world.sockets).enumerate() {
            let (echoes, publications) = heard(&socket.outbound);
            if peer.gone || peer.closed {
                assert!(peer.echoes.starts_with(&echoes), "seed {seed}: peer {index} heard what it had not said");
                assert!(socket.closed, "seed {seed}: the socket of peer {index} is still open");
            } else {
                assert!(peer.echoes == echoes, "seed {seed}: peer {index} is missing echoes");
            }
            // All peers hear publications in one order, each once; who came later hears its end.
            if !peer.gone && !peer.closed {
                let longest = order.get_or_insert_with(|| publications.clone());
                let (short, long) = if longest.len() < publications.len() {
                    (&*longest, &publications)
                } else {
                    (&publications, &*longest)
                };
                assert!(long.ends_with(short), "seed {seed}: peer {index} heard another order");
                if publications.len() > longest.len() {
                    *longest = publications;
                }
            }
        }
    }
    worker.drain(Duration::ZERO);
    for _ in 0..20_000 {
        if worker.turn().unwrap() == Progress::Ended {
            break;
        }
    }
    assert_eq!(*open.borrow(), 0, "seed {seed}: an end was not announced");
    assert_eq!(worker.connections.len(), 0, "seed {seed}: a slot has leaked");
    assert_eq!(worker.driver.free.len(), usize::from(BUFFERS), "seed {seed}: a receive buffer has leaked");
    assert_eq!(worker.topics.len(), 0, "seed {seed}: a topic has leaked");
    assert!(worker.timers.is_empty(), "seed {seed}: a deadline has leaked");
    let stats = worker.shared_stats.read();
    assert_eq!((stats.connections, stats.connections_open, stats.connections_hot), (0, 0, 0), "seed {seed}");
    assert_eq!(stats.closed_slow, 0, "seed {seed}: a peer was closed for what it had caused itself");
    assert!(world.borrow().sockets.iter().all(|socket| socket.closed), "seed {seed}: a socket is still open");
}

#[test]
fn nothing_is_lost_doubled_reordered_or_leaked() {
    let seeds = match std::env::var("CRORE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("CRORE_TEST_SEED is a number")],
        Err(_) => {
            let first = fastrand::u64(..1 << 48);
            let count = std::env::var("CRORE_TEST_SEEDS").map_or(60, |count| count.parse().expect("a number"));
            println!("{count} seeds from {first} on");
            (first..first + count).collect()
        }
    };
    for seed in seeds {
        run(seed);
    }
}

#[test]
fn a_frame_of_ours_is_read_back() {
    let mut outbound = b"HTTP/1.1 101\r\n\r\n".to_vec();
    append_frame(&mut outbound, Opcode::Binary, b"one");
    append_frame(&mut outbound, Opcode::Text, b"two");
    assert_eq!(heard(&outbound), (vec![b"one".to_vec()], vec![b"two".to_vec()]));
}
