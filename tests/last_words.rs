//! What a peer has said before it ended its stream, while answers wait for it: all of it counts, and costs no
//! more than it is long.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crore_engine::driver::{BufferId, Completion, Driver, Outgoing, Shutdown, Socket, Token};
use crore_engine::limits::{HOT_MESSAGES, Limits, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crore_engine::mesh::Capacity;
use crore_engine::protocol::deflate::Compression;
use crore_engine::simulation::{Buffers, Setup, Worker};
use crore_engine::{Context, Handler, Message};

/// What happens on the one connection.
enum Step {
    Accepted,
    Readable,
    Received { bytes: Vec<u8>, armed: bool },
    Ended,
}

/// A kernel that does what the test says, and never sends anything.
struct Script {
    steps: Rc<RefCell<VecDeque<Step>>>,
    buffers: Buffers,
    /// The request that watches the connection, and its sends.
    token: Option<Token>,
    sending: Vec<Outgoing>,
}

impl Driver for Script {
    fn accept(&mut self) {}
    fn stop_accepting(&mut self) {}
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
    fn send(&mut self, _: Socket, _: Token, outgoing: Outgoing) {
        self.sending.push(outgoing);
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
            Step::Readable => Completion::Readable(token?),
            Step::Received { bytes, armed } => {
                let buffer = self.buffers.take()?;
                self.buffers.bytes(&buffer)[..bytes.len()].copy_from_slice(&bytes);
                let bytes = u32::try_from(bytes.len()).ok()?;
                Completion::Received { token: token?, buffer, bytes, nonempty: false, armed }
            }
            Step::Ended => Completion::ReceiveEnded(token?, None),
        })
    }
    fn has_queued(&self) -> bool {
        false
    }
    fn has_completions(&mut self) -> bool {
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

#[test]
fn what_a_peer_has_said_before_it_ends_costs_no_more_than_it_is_long() {
    let (steps, heard) = (Rc::new(RefCell::new(VecDeque::new())), Rc::new(Cell::new(0)));
    let driver =
        Script { steps: Rc::clone(&steps), buffers: Buffers::new(RECEIVE_BUFFERS), token: None, sending: Vec::new() };
    let setup = Setup {
        limits: Limits { outbox_messages_max: 1000, ..Limits::default() },
        compression: Some(Compression::default()),
        connections_max: 1,
        cores: 1,
        inbox_commands: 1,
        mesh: Capacity { lane_entries: 1, backlog_entries_max: 1 },
    };
    let now = Rc::new(Cell::new(Duration::ZERO));
    let (mut worker, _) = Worker::new(setup, driver, Echo(Rc::clone(&heard)), &now).expect("an eventfd");
    let mut turn = |happening: Vec<Step>| {
        steps.borrow_mut().extend(happening);
        worker.turn().expect("the script is good");
    };
    // Until the receive is a multishot one, which goes on while the connection is paused.
    let first = [REQUEST.as_bytes(), &EMPTY.repeat(HOT_MESSAGES.into())].concat();
    turn(vec![Step::Accepted]);
    turn(vec![Step::Readable]);
    turn(vec![Step::Received { bytes: first, armed: false }]);
    assert_eq!(heard.get(), usize::from(HOT_MESSAGES));

    let buffer = EMPTY.repeat(RECEIVE_BUFFER_BYTES / EMPTY.len());
    let buffers = usize::from(RECEIVE_BUFFERS) - 1;
    let mut last: Vec<Step> = (0..buffers).map(|_| Step::Received { bytes: buffer.clone(), armed: true }).collect();
    last.push(Step::Ended);
    turn(last);
    assert_eq!(heard.get(), usize::from(HOT_MESSAGES) + buffers * (RECEIVE_BUFFER_BYTES / EMPTY.len()));
}
