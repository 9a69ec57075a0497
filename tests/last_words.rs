//! What a peer has said before it ended its stream, while answers wait for it: all of it counts, and costs no
//! more than it is long.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::driver::{BufferId, Completion, Driver, Errno, Outgoing, PeerAddress, Shutdown, Socket, Token};
use crore_engine::limits::{HOT_MESSAGES, Limits, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crore_engine::mesh::Capacity;
use crore_engine::protocol::deflate::Compression;
use crore_engine::simulation::{Buffers, Setup, Worker};
use crore_engine::{Context, Handler, Message, ProxyProtocol};

/// What happens on the one connection.
enum Step {
    Accepted,
    Readable,
    /// The peer has gone.
    Gone,
    Received {
        bytes: Vec<u8>,
        armed: bool,
    },
    Ended,
    /// The oldest send is done.
    Sent,
    /// The tick that the worker waits for.
    Tick,
    /// It has failed: the peer has gone.
    SendFailed,
}

/// A kernel that does what the test says.
struct Script {
    steps: Rc<RefCell<VecDeque<Step>>>,
    buffers: Buffers,
    /// The request that watches the connection, and its sends.
    token: Option<Token>,
    sending: VecDeque<(Token, Outgoing)>,
}

impl Driver for Script {
    fn accept(&mut self) {}
    fn stop_accepting(&mut self) {}
    fn peer_address(&mut self, _: Socket, _: Token) -> PeerAddress {
        PeerAddress::Known(None)
    }
    fn poll(&mut self, _: Socket, token: Token) {
        self.token = Some(token);
    }
    fn receive(&mut self, _: Socket, token: Token) {
        self.token = Some(token);
    }
    fn receive_multishot(&mut self, _: Socket, token: Token) {
        self.token = Some(token);
    }
    fn cancel(&mut self, _: Token) {}
    fn send(&mut self, _: Socket, token: Token, outgoing: Outgoing) {
        self.sending.push_back((token, outgoing));
    }
    fn shutdown(&mut self, _: Socket, _: Token, _: Shutdown) -> bool {
        false
    }
    fn close(&mut self, _: Socket) {}
    fn tick(&mut self, _: Duration) {}
    fn enter(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn next_completion(&mut self) -> Option<Completion> {
        let step = self.steps.borrow_mut().pop_front()?;
        let token = self.token;
        Some(match step {
            Step::Accepted => Completion::Accepted(Socket(0)),
            Step::Readable => Completion::Readable { token: token?, gone: false },
            Step::Gone => Completion::Readable { token: token?, gone: true },
            Step::Received { bytes, armed } => {
                let buffer = self.buffers.take()?;
                self.buffers.bytes(&buffer)[..bytes.len()].copy_from_slice(&bytes);
                let bytes = u32::try_from(bytes.len()).ok()?;
                Completion::Received { token: token?, buffer, bytes, nonempty: false, armed }
            }
            Step::Ended => Completion::ReceiveEnded(token?, None),
            Step::Tick => Completion::Tick,
            Step::Sent => {
                let (token, outgoing) = self.sending.pop_front()?;
                Completion::Sent { token, result: Ok(u32::try_from(outgoing.len()).ok()?), outgoing }
            }
            Step::SendFailed => {
                let (token, outgoing) = self.sending.pop_front()?;
                Completion::Sent { token, result: Err(Errno(EPIPE)), outgoing }
            }
        })
    }
    fn has_queued(&self) -> bool {
        false
    }
    fn has_completions(&mut self) -> bool {
        self.is_behind()
    }
    fn is_behind(&self) -> bool {
        !self.steps.borrow().is_empty()
    }
    fn bytes(&mut self, buffer: &BufferId) -> &mut [u8] {
        self.buffers.bytes(buffer)
    }
    fn release(&mut self, buffer: BufferId) {
        self.buffers.release(buffer);
    }
    fn buffers_free(&self) -> usize {
        self.buffers.free()
    }
    fn receive_pool_bytes(&self) -> usize {
        0
    }
    fn trim(&mut self) {}
}

/// Echoes, and counts what has come.
struct Echo(Rc<Cell<usize>>);

impl Handler for Echo {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        self.0.set(self.0.get() + 1);
        context.send(message);
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// A compressed message of nothing.
const EMPTY: [u8; 7] = [0xc2, 0x81, 0, 0, 0, 0, 0];

/// `errno(3)`.
const EPIPE: i32 = 32;

/// Messages of which one may wait for the peer.
const OUTBOX_MESSAGES_MAX: usize = 1000;

/// A worker with one peer.
struct Scene {
    steps: Rc<RefCell<VecDeque<Step>>>,
    heard: Rc<Cell<usize>>,
    now: Rc<Cell<Duration>>,
    worker: Worker<Script, Echo>,
}

impl Scene {
    /// With one that has said so many compressed messages of nothing.
    fn opened(messages: usize) -> Self {
        let (steps, heard) = (Rc::new(RefCell::new(VecDeque::new())), Rc::new(Cell::new(0)));
        let buffers = Buffers::new(RECEIVE_BUFFERS);
        let driver = Script { steps: Rc::clone(&steps), buffers, token: None, sending: VecDeque::new() };
        let setup = Setup {
            limits: Limits { outbox_messages_max: OUTBOX_MESSAGES_MAX, ..Limits::default() },
            peer_addresses: false,
            proxy_protocol: ProxyProtocol::Off,
            compression: Some(Compression::default()),
            coalescing: None,
            connections_max: 1,
            cores: 1,
            inbox_commands: 1,
            mesh: Capacity { lane_entries: 1, backlog_entries_max: 1 },
        };
        let now = Rc::new(Cell::new(Duration::ZERO));
        let (worker, _) = Worker::new(setup, driver, Echo(Rc::clone(&heard)), &now).expect("an eventfd");
        let mut scene = Self { steps, heard, now, worker };
        let first = [REQUEST.as_bytes(), &EMPTY.repeat(messages)].concat();
        scene.turn([Step::Accepted]);
        scene.turn([Step::Readable]);
        scene.turn([Step::Received { bytes: first, armed: false }]);
        assert_eq!(scene.heard.get(), messages);
        scene
    }

    /// With one that has filled every receive buffer but one, and ended its stream.
    fn full() -> Self {
        // The receive is a multishot one, which goes on while the connection is paused.
        let mut scene = Self::opened(HOT_MESSAGES.into());
        let buffer = EMPTY.repeat(IN_A_BUFFER);
        let received = (0..BUFFERS).map(|_| Step::Received { bytes: buffer.clone(), armed: true });
        scene.turn(received.chain([Step::Ended]));
        scene
    }

    fn turn(&mut self, happening: impl IntoIterator<Item = Step>) {
        self.steps.borrow_mut().extend(happening);
        self.worker.turn().expect("the script is good");
    }
}

const IN_A_BUFFER: usize = RECEIVE_BUFFER_BYTES / EMPTY.len();
const BUFFERS: usize = RECEIVE_BUFFERS as usize - 1;
const SAID: usize = HOT_MESSAGES as usize + BUFFERS * IN_A_BUFFER;

#[test]
fn who_has_said_all_and_still_reads_is_answered_as_it_reads() {
    let mut scene = Scene::full();
    // The end of the stream is seen when all has been answered: then there is nobody left.
    let mut turns = 0;
    while scene.worker.handle().stats().connections > 0 {
        let answered = scene.heard.get();
        let happening = if answered < SAID { Step::Sent } else { Step::Ended };
        scene.turn([Step::Sent, happening]);
        assert!(scene.heard.get() - answered <= OUTBOX_MESSAGES_MAX, "there is room for no more");
        turns += 1;
        assert!(turns < SAID, "{} of {SAID} are answered", scene.heard.get());
    }
    assert_eq!(scene.heard.get(), SAID);
    let stats = scene.worker.handle().stats();
    assert_eq!((stats.messages_sent, stats.messages_dropped, stats.closed_slow), (SAID as u64, 0, 0));
}

#[test]
fn what_a_peer_has_said_before_it_goes_costs_no_more_than_it_is_long() {
    let mut scene = Scene::full();
    assert!(scene.heard.get() < SAID);
    scene.turn([Step::SendFailed]);
    assert_eq!(scene.heard.get(), SAID);
    assert_eq!(scene.worker.handle().stats().connections, 0);
}

#[test]
fn a_send_that_fails_does_not_end_who_is_still_to_be_heard() {
    let mut scene = Scene::opened(1);
    // The answer to the first message is on its way when the peer says a second one, and goes.
    scene.turn([Step::Gone, Step::SendFailed]);
    assert_eq!(scene.worker.handle().stats().connections, 1);
    scene.turn([Step::Received { bytes: EMPTY.to_vec(), armed: false }, Step::Gone]);
    assert_eq!(scene.heard.get(), 2);
    scene.turn([Step::Ended, Step::SendFailed]);
    assert_eq!(scene.worker.handle().stats().connections, 0);
}

#[test]
fn who_has_answered_a_heartbeat_is_not_cut_because_the_core_was_late() {
    let interval = Limits::default().ping_interval;
    let mut scene = Scene::opened(1);
    scene.turn([Step::Sent, Step::Sent]);
    let ping = |scene: &mut Scene| {
        scene.now.set(scene.now.get() + interval + Duration::from_secs(1));
        scene.turn([Step::Tick]);
    };
    ping(&mut scene);
    assert_eq!(scene.worker.handle().stats().pings_sent, 1);
    // The answer has come, but the core was stopped meanwhile: it has only seen that there is something.
    scene.now.set(scene.now.get() + 2 * interval);
    scene.turn([Step::Sent, Step::Readable, Step::Tick]);
    let stats = scene.worker.handle().stats();
    assert_eq!((stats.connections, stats.ping_timeouts_deferred, stats.closed_ping_timeout), (1, 1, 0));
    scene.turn([Step::Received { bytes: EMPTY.to_vec(), armed: false }]);
    ping(&mut scene);
    assert_eq!(scene.worker.handle().stats().pings_sent, 2);
    // And who has not answered is cut.
    ping(&mut scene);
    assert_eq!(scene.worker.handle().stats().closed_ping_timeout, 1);
}
