//! Memory: what slow, broken and unfinished peers may make the engine hold. The allocator itself counts,
//! and it counts the whole process, so the tests of this file run one at a time.

use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crore_engine::{Compression, Context, Handler, Limits, Message, OwnedMessage, SlowConsumer};
use crore_tests::frame::{BINARY, PING, PONG, fragment, header, masked};
use crore_tests::system::allocated_bytes;
use crore_tests::{Client, DeflateClient, Frame, Server, Setup, limits, on_each_kind, wait_until};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are allocated in addition to those `before`.
fn grown(before: usize) -> usize {
    allocated_bytes().saturating_sub(before)
}

/// Everyone hears the news; an echo otherwise. It keeps nothing of what it is told.
struct Forgetful;

impl Handler for Forgetful {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        if message.as_text() == Some("subscribe news") {
            context.subscribe("news").expect("one subscription is within the limits");
            context.send("subscribed");
        } else {
            context.send(message);
        }
    }
}

fn start(setup: Setup, limits: Limits) -> Server {
    setup.start_handler(1, limits, channel().1, |_| Forgetful)
}

fn subscriber(server: &Server) -> Client {
    let mut client = Client::tcp_with_window(server.address(), 4096).upgraded();
    assert_eq!(client.ask("subscribe news"), "subscribed");
    client
}

/// Publishes messages of 10 kB in lockstep with a subscriber that reads.
fn publish(server: &Server, reader: &mut Client, count: usize) {
    for _ in 0..count {
        server.handle().publish("news", OwnedMessage::binary(vec![1; 10_000])).expect("room for a command");
        assert_eq!(reader.frame().payload.len(), 10_000);
    }
}

#[test]
fn outboxes_are_bounded_whatever_is_published() {
    let _alone = alone();
    on_each_kind(|setup| {
        for slow_consumer in [SlowConsumer::Disconnect, SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
            let server = start(setup, Limits { slow_consumer, ..limits() });
            let slow: Vec<Client> = (0..10).map(|_| subscriber(&server)).collect();
            let mut reader = subscriber(&server);
            publish(&server, &mut reader, 100);
            let before = allocated_bytes();
            // 10 MB to each of ten outboxes of a megabyte.
            publish(&server, &mut reader, 1_000);
            assert!(grown(before) < 12 << 20, "{} bytes more with {slow_consumer:?}", grown(before));
            drop(slow);
        }
    });
}

#[test]
fn a_flood_of_pings_that_reads_no_pong_fills_nothing() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, limits());
        let mut bystander = server.client();
        let mut flood = Client::tcp_with_window(server.address(), 4096).upgraded();
        flood.answers_pings = false;
        let pings = masked(PING, &[0x42; 125]).repeat(1000);
        let before = allocated_bytes();
        flood.send_until_blocked(&pings, 100 << 20);
        assert!(grown(before) < 1 << 20, "{} bytes more", grown(before));
        assert_eq!(bystander.ask("still here"), "still here");
        // The last ping of all is answered.
        flood.send(masked(PING, b"the last"));
        let last = Frame { first: PONG, payload: b"the last".to_vec() };
        while flood.frame() != last {}
        assert_eq!(flood.ask("hello"), "hello");
    });
}

#[test]
fn what_is_announced_is_not_allocated() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, Limits { message_bytes_max: 1 << 30, ..limits() });
        let mut bystander = server.client();
        let before = allocated_bytes();
        // A gigabyte each, and a kilobyte of it sent.
        let clients: Vec<Client> = (0..100)
            .map(|_| {
                let mut client = server.client();
                client.send(header(BINARY, 1 << 30));
                client.send([0; 1000]);
                client
            })
            .collect();
        assert_eq!(bystander.ask("still here"), "still here");
        assert!(grown(before) < 1 << 20, "{} bytes more", grown(before));
        drop(clients);
    });
}

#[test]
fn messages_that_never_end_are_bounded() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, limits());
        let before = allocated_bytes();
        for _ in 0..20 {
            let mut client = server.client();
            client.send(masked(fragment::BINARY, &[1; 60_000]));
            // Up to the limit, by default a megabyte; its answer, and then the end, are not looked for.
            for _ in 0..30 {
                let _ = client.try_send(masked(fragment::MIDDLE, &[1; 60_000]));
                assert!(grown(before) < 3 << 20, "{} bytes more", grown(before));
            }
        }
        server.wait_for("each is refused", |stats| stats.closed_protocol == 20);
        server.wait_until_empty();
        assert!(grown(before) < 1 << 20, "{} bytes more", grown(before));
    });
}

#[test]
fn who_breaks_the_protocol_holds_nothing_until_its_end() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, limits());
        let before = allocated_bytes();
        let clients: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = server.client();
                client.send(masked(fragment::BINARY, &vec![1; 600_000]));
                client.send(masked(BINARY, b"a message within a message"));
                assert_eq!(client.frame().close().0, Some(1002));
                client
            })
            .collect();
        assert!(grown(before) < 1 << 20, "{} bytes more", grown(before));
        drop(clients);
    });
}

#[test]
fn memory_of_large_messages_is_given_back() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, Limits { message_bytes_max: 2_000_000, outbox_bytes_max: 64 << 20, ..limits() });
        let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
        let before = allocated_bytes();
        for client in &mut clients {
            let message = vec![3; 2_000_000];
            client.send(masked(BINARY, &message));
            assert!(client.frame().payload == message);
        }
        // Ten connections that are idle again hold nothing of twenty megabytes; the last one's echo is held until
        // its completion has come.
        wait_until("all is given back", || grown(before) < 1 << 20);
        drop(clients);
    });
}

#[test]
fn the_books_agree_with_the_allocator_and_after_a_burst_both_are_where_they_were() {
    const CONNECTIONS: usize = 20;
    const MESSAGE_BYTES: usize = 1_000_000;
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(setup, limits());
        let memory = || server.handle().memory();
        let mut clients: Vec<Client> =
            (0..CONNECTIONS).map(|_| Client::tcp_with_window(server.address(), 4096).upgraded()).collect();
        let message = masked(BINARY, &vec![3; MESSAGE_BYTES]);
        let (most, last) = message.split_at(MESSAGE_BYTES * 9 / 10);
        wait_until("the pools are empty", || memory().partial + memory().outbox == 0 && memory().kernel > 0);
        let (before, counted) = (allocated_bytes(), memory().user_bytes());
        let agree = |what: &str| {
            wait_until(what, || {
                let (grown, counted) = (grown(before), memory().user_bytes().saturating_sub(counted));
                counted.abs_diff(grown as u64) <= grown as u64 / 20 + 100_000
            });
        };

        for client in &mut clients {
            client.send(most);
        }
        wait_until("most of each", || memory().partial >= (CONNECTIONS * most.len()) as u64);
        agree("what has come in part is what is allocated");
        for client in &mut clients {
            client.send(last);
        }
        // The kernel has taken some of it.
        wait_until("answers that nobody reads", || memory().outbox >= (CONNECTIONS * MESSAGE_BYTES / 2) as u64);
        agree("what waits is what is allocated");
        for client in &mut clients {
            assert_eq!(client.frame().payload.len(), MESSAGE_BYTES);
            client.forget();
        }
        // In a few kilobytes for each client there is room for nothing of twenty megabytes, nor for what a core keeps
        // from message to message.
        wait_until("all is given back", || memory().partial + memory().outbox == 0 && grown(before) < 50_000);
        assert!(memory().user_bytes() <= counted + 10_000, "{:?}", memory());
    });
}

#[test]
fn compressors_are_counted_at_what_they_take_and_freed_when_nobody_compresses() {
    let _alone = alone();
    on_each_kind(|setup| {
        let server = start(Setup { compression: Some(Compression::default()), ..setup }, limits());
        let deflate = || usize::try_from(server.handle().memory().deflate).expect("kilobytes");
        for bits in [9, 15] {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let mut client = DeflateClient::upgrade(server.tcp(), &offer);
            let said = "alike ".repeat(1_000);
            // What the client's own ends take is there from here on.
            client.say(&said);
            assert!(client.hear() == (said.clone(), true));
            client.client.forget();
            wait_until("it is counted", || deflate() > 150_000);
            let (with, counted) = (allocated_bytes(), deflate());
            wait_until("it is freed", || deflate() == 0);
            let freed = with.saturating_sub(allocated_bytes());
            assert!(freed.abs_diff(counted) < counted / 10, "{counted} bytes counted, {freed} freed, {bits} bits");
        }
    });
}

/// Bytes that the engine and this process keep for each of the connections that `open` makes and uses.
fn bytes_each(server: &Server, open: impl Fn(&Server) -> Client) -> usize {
    const CONNECTIONS: usize = 200;
    // What the core keeps for all is filled by the first ones, and freed where a second passes without a use of it: on a
    // slow machine that may fall between two readings, but not between most of them.
    let mut tries = [(); 3].map(|()| {
        let warm: Vec<_> = (0..50).map(|_| open(server)).collect();
        let before = allocated_bytes();
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| open(server)).collect();
        let bytes = allocated_bytes().saturating_sub(before) / CONNECTIONS;
        drop((warm, clients));
        server.wait_until_empty();
        bytes
    });
    tries.sort_unstable();
    tries[1]
}

#[test]
fn an_idle_connection_costs_no_more_for_having_compressed() {
    let _alone = alone();
    on_each_kind(|setup| {
        let said = "alike ".repeat(1_000);
        let talk = |server: &Server, offer: &str| {
            let mut client = DeflateClient::upgrade(server.tcp(), offer);
            for _ in 0..2 {
                client.say(&said);
                assert!(client.hear() == (said.clone(), true));
            }
            client.client.forget();
            client.client
        };
        let server = start(Setup { compression: Some(Compression::default()), ..setup }, limits());
        let plain = bytes_each(&server, |server| {
            let mut client = server.client();
            assert_eq!(client.ask(&said), said);
            client.forget();
            client
        });
        let compressed = bytes_each(&server, |server| talk(server, "permessage-deflate"));
        assert!(compressed <= plain + 16, "{compressed} bytes each, {plain} without compression");

        // With context takeover each direction keeps its window, and no more.
        let small = Compression {
            server_context_takeover: true,
            client_context_takeover: true,
            server_window_bits: 10,
            client_window_bits: 10,
            ..Compression::default()
        };
        let server = start(Setup { compression: Some(small), ..setup }, limits());
        let kept = bytes_each(&server, |server| talk(server, "permessage-deflate; client_max_window_bits"));
        assert!((plain + 2048..plain + 2048 + 768).contains(&kept), "{kept} bytes each, {plain} without compression");
    });
}
