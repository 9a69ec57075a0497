//! The memory budget, and the books that it is kept by: classes that grow and return, who is turned away, who is
//! closed, and who stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crore_engine::limits::{
    RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, RETRY_AFTER_SECONDS_MAX, RETRY_AFTER_SECONDS_MIN, TICK_MS, TRIM_INTERVAL_MS,
};
use crore_engine::{
    Bound, CloseCause, Closed, Closing, Compression, Context, Engine, Error, Handler, Limits, Memory, Message,
    OwnedMessage, SlowConsumer,
};
use crore_tests::client::REQUEST;
use crore_tests::frame::{BINARY, CLOSE, fragment, masked};
use crore_tests::{Client, DeflateClient, Event, Heard, Server, Setup, limits, on_each_kind, wait_until};

/// What a core holds of receive buffers.
const POOL_BYTES: u64 = RECEIVE_BUFFERS as u64 * RECEIVE_BUFFER_BYTES as u64;

/// Bytes that connections and their output may take in the tests of the budget.
const ROOM_BYTES: u64 = 8 << 20;

/// Does what it is told, and says that it holds as much as the test wants.
struct Hoarder {
    bytes: Arc<AtomicUsize>,
    events: crore_tests::server::Reports,
}

impl Handler for Hoarder {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        match message.as_text().and_then(|text| text.strip_prefix("subscribe ")) {
            Some(topic) => {
                context.subscribe(topic).expect("within the limits");
                context.send("subscribed");
            }
            None => context.send(message),
        }
    }

    fn on_closing(&mut self, context: &mut Context<'_>, (): &mut (), Closing { code, cause }: Closing) {
        let _ = self.events.send(Event::Closing { id: context.id(), code, cause });
    }

    fn on_close(&mut self, context: &mut Context<'_>, (): &mut (), closed: Closed<'_>) {
        let (code, reason, cause) = (closed.code, closed.reason.to_owned(), closed.cause);
        let _ = self.events.send(Event::Closed { id: context.id(), code, reason, cause });
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A server with [`ROOM_BYTES`] beside its receive buffers, of which the handler takes what the number says.
fn start(setup: Setup, limits: Limits) -> (Server, Arc<AtomicUsize>) {
    let bytes = Arc::new(AtomicUsize::new(0));
    let (sender, events) = channel();
    let limits = Limits { memory_budget_bytes: Some(POOL_BYTES + ROOM_BYTES), ..limits };
    let given = Arc::clone(&bytes);
    let server =
        setup.start_handler(1, limits, events, move |_| Hoarder { bytes: Arc::clone(&given), events: sender.clone() });
    (server, bytes)
}

/// Waits until the books say so.
#[track_caller]
fn wait_for(server: &Server, what: &str, condition: impl Fn(&Memory) -> bool) {
    wait_until(what, || condition(&server.handle().memory()));
}

/// Has the handler take so much that `left` bytes are left of the budget, once the pools have given back what they do
/// not need.
fn leave(server: &Server, hoard: &AtomicUsize, left: i64) {
    std::thread::sleep(Duration::from_millis(2 * TRIM_INTERVAL_MS + 5 * TICK_MS));
    let session = server.handle().memory().session;
    let others = server.handle().memory().total_bytes() - hoard.load(Ordering::Relaxed) as u64;
    let wanted = i64::try_from(POOL_BYTES + ROOM_BYTES - others).expect("a few megabytes") - left;
    hoard.store(usize::try_from(wanted).expect("there is room"), Ordering::Relaxed);
    wait_for(server, "the tick that asks the handler", |memory| memory.session != session);
}

fn subscriber(server: &Server, topic: &str) -> Client {
    let mut client = Client::tcp_with_window(server.address(), 4096).upgraded();
    assert_eq!(client.ask(&format!("subscribe {topic}")), "subscribed");
    client
}

fn publish(server: &Server, topic: &str, messages: usize) {
    for _ in 0..messages {
        server.handle().publish(topic, OwnedMessage::binary(vec![1; 10_000])).expect("room for a command");
    }
}

#[test]
fn each_class_grows_with_what_it_is_for_and_returns() {
    on_each_kind(|setup| {
        let setup = Setup { compression: Some(Compression::default()), ..setup };
        let server = setup.start_with(1, limits());
        wait_for(&server, "the pool", |memory| memory.receive_pool == POOL_BYTES);
        let empty = server.handle().memory();
        assert_eq!((empty.slab, empty.partial, empty.outbox, empty.deflate, empty.kernel), (0, 0, 0, 0, 0));

        let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
        wait_for(&server, "slots, and the kernel's share", |memory| memory.slab >= 500 && memory.kernel >= 10 * 2000);
        let idle = server.handle().memory();
        assert!(idle.slab <= 10 * 200, "{idle:?}");

        clients[0].send(masked(fragment::BINARY, &[7; 60_000]));
        wait_for(&server, "half a message", |memory| (60_000..300_000).contains(&memory.partial));
        clients[0].send(masked(fragment::LAST, &[7; 60_000]));
        assert_eq!(clients[0].frame().payload.len(), 120_000);
        wait_for(&server, "the rest, and the buffers", |memory| (memory.partial, memory.outbox) == (0, 0));

        assert_eq!(clients[1].ask("subscribe news"), "subscribed");
        wait_for(&server, "a topic", |memory| memory.topics > idle.topics);

        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        assert_eq!(slow.ask("subscribe more"), "subscribed");
        publish(&server, "more", 100);
        wait_for(&server, "what waits", |memory| memory.outbox > 200_000);
        for _ in 0..100 {
            assert_eq!(slow.frame().payload.len(), 10_000);
        }
        wait_for(&server, "all has left", |memory| memory.outbox == 0);

        let mut compressed = DeflateClient::upgrade(server.tcp(), "permessage-deflate");
        let said = "alike ".repeat(1_000);
        compressed.say(&said);
        assert!(compressed.hear() == (said, true));
        wait_for(&server, "a compressor and a decompressor", |memory| memory.deflate > 200_000);
        wait_for(&server, "nobody compresses any more", |memory| memory.deflate == 0);
        drop((clients, slow, compressed));
        server.wait_until_empty();
        wait_for(&server, "the kernel's share", |memory| memory.kernel == 0);
    });
}

#[test]
fn who_comes_when_memory_is_short_is_told_when_to_try_again() {
    on_each_kind(|setup| {
        let (server, hoard) = start(setup, limits());
        let mut idle: Vec<Client> = (0..20).map(|_| server.client()).collect();
        // Less than a sixteenth is left.
        leave(&server, &hoard, 100_000);
        let mut delays: Vec<u32> = (0..40)
            .map(|_| {
                let mut client = server.tcp();
                client.send(REQUEST);
                let response = client.response();
                assert_eq!(response.status, 503, "{}", response.head);
                client.ended();
                response.header("Retry-After").and_then(|seconds| seconds.parse().ok()).expect("a number of seconds")
            })
            .collect();
        delays.sort_unstable();
        assert!(delays.iter().all(|delay| (RETRY_AFTER_SECONDS_MIN..=RETRY_AFTER_SECONDS_MAX).contains(delay)));
        delays.dedup();
        assert!(delays.len() >= 10, "they do not come back all at once: {delays:?}");
        let stats = server.stats();
        assert_eq!((stats.refused_memory, stats.upgrades, stats.closed_memory), (40, 20, 0));
        for client in &mut idle {
            assert_eq!(client.ask("still here"), "still here");
        }
        // Even when all of it is used up.
        leave(&server, &hoard, -1_000_000);
        for client in &mut idle {
            assert_eq!(client.ask("still here"), "still here");
        }
        assert_eq!(server.stats().closed_memory, 0, "who holds nothing stays");
        hoard.store(0, Ordering::Relaxed);
        wait_for(&server, "there is memory again", |memory| memory.session < 10_000);
        assert_eq!(server.client().ask("hello"), "hello");
    });
}

#[test]
fn who_holds_the_most_is_closed_first_and_no_more_than_need_be() {
    on_each_kind(|setup| {
        let (server, hoard) = start(setup, Limits { outbox_bytes_max: 2 << 20, ..limits() });
        let mut idle: Vec<Client> = (0..20).map(|_| server.client()).collect();
        let (mut small, mut large) = (subscriber(&server, "small"), subscriber(&server, "large"));
        publish(&server, "small", 60);
        publish(&server, "large", 150);
        wait_for(&server, "what waits", |memory| memory.outbox > 1_000_000);
        let mut sender = server.client();
        sender.send(masked(fragment::BINARY, &[7; 30_000]));
        wait_for(&server, "half a message", |memory| memory.partial >= 30_000);
        assert_eq!(server.stats().closed_memory, 0);
        leave(&server, &hoard, -100_000);
        assert_eq!(heard_code(&mut large), Some(1013));
        assert!(matches!(server.event(), Event::Closing { code: 1013, cause: CloseCause::Memory, .. }));
        assert_eq!(closed(&server), (1013, CloseCause::Memory));
        assert_eq!(small.frame().payload.len(), 10_000, "the other one is still sent to");
        assert_eq!(server.stats().closed_memory, 1);
        // Then the next one, and then who has sent half a message.
        leave(&server, &hoard, -1_000_000);
        assert_eq!(heard_code(&mut small), Some(1013));
        assert_eq!(heard_code(&mut sender), Some(1013));
        assert_eq!(closed(&server), (1013, CloseCause::Memory));
        assert_eq!(closed(&server), (1013, CloseCause::Memory));
        assert_eq!(server.stats().closed_memory, 3);
        for client in &mut idle {
            assert_eq!(client.ask("still here"), "still here");
        }
        wait_for(&server, "what they held is given back", |memory| memory.outbox + memory.partial < 200_000);
    });
}

#[test]
fn who_does_not_read_a_large_message_is_cut() {
    for (messages, bytes) in [(1, 1_000_000), (5, 120_000)] {
        on_each_kind(|setup| {
            let limits = Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() };
            let (server, hoard) = start(setup, limits);
            let mut idle = server.client();
            let mut deaf = Client::tcp_with_window(server.address(), 4096).upgraded();
            for _ in 0..messages {
                deaf.send(masked(BINARY, &vec![7; bytes]));
            }
            wait_for(&server, "an answer that is not read", |memory| memory.outbox >= 200_000);
            leave(&server, &hoard, -100_000);
            assert_eq!(closed(&server), (1006, CloseCause::Memory));
            wait_for(&server, "it is given back", |memory| memory.outbox < 100_000);
            assert_eq!(idle.ask("still here"), "still here");
            assert_eq!(server.stats().closed_memory, 1);
        });
    }
}

#[test]
fn a_message_is_not_kept_while_its_answer_waits() {
    on_each_kind(|setup| {
        let limits = Limits { slow_consumer: SlowConsumer::DropNewest, ..limits() };
        let (server, _hoard) = start(setup, limits);
        let mut deaf = Client::tcp_with_window(server.address(), 4096).upgraded();
        deaf.send(masked(BINARY, &[7; 1_000_000]));
        wait_for(&server, "an answer that is not read", |memory| memory.outbox >= 1_000_000);
        wait_for(&server, "nothing else of it", |memory| memory.partial < 100_000);
    });
}

#[test]
fn the_budget_bounds_the_connections_if_nothing_else_does() {
    on_each_kind(|setup| {
        let engine = |bytes| {
            let limits = Limits { memory_budget_bytes: Some(bytes), ..Limits::default() };
            let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(2).limits(limits);
            let (sender, _events) = channel();
            engine.descriptors(setup.descriptors).start(move |_| crore_tests::Actor::new(sender.clone()))
        };
        let running = engine(2 * POOL_BYTES + (4 << 20)).expect("the engine starts");
        let room = running.room();
        assert_eq!((room.bound, room.memory_budget_bytes), (Bound::Memory, 2 * POOL_BYTES + (4 << 20)));
        assert!((200..600).contains(&room.connections_per_core_max), "two megabytes each, less a sixteenth: {room:?}");
        running.handle().drain(Duration::ZERO);
        running.join().expect("every worker ends in peace");
        let error = engine(1 << 20).expect_err("the receive buffers alone are more");
        assert!(matches!(error, Error::NoMemory(_)) && error.to_string().contains("raise `memory_budget`"), "{error}");
    });
}

/// The next end that is announced: when the close frame is answered.
#[track_caller]
fn closed(server: &Server) -> (u16, CloseCause) {
    let (code, _, cause) = server.closed();
    (code, cause)
}

/// The code of the close frame behind what has left before it, which is answered.
fn heard_code(client: &mut Client) -> Option<u16> {
    loop {
        match client.hear() {
            Heard::Frame(frame) if frame.first == CLOSE => {
                client.send(crore_tests::frame::close(1013, ""));
                client.ended();
                return frame.close().0;
            }
            Heard::Frame(_) => {}
            Heard::End | Heard::Reset => return None,
        }
    }
}
