//! Ordinary use at its edges, and peers at theirs: limits that stand for "never", requests that are refused,
//! ends in the middle of something.

use std::sync::mpsc::channel;
use std::time::Duration;

use crore_engine::{
    Answer, CloseCause, Context, CoreId, Engine, Error, Handler, Limits, Message, Request, Response, SlowConsumer,
};
use crore_tests::{Client, client, frame, limits, on_each_kind};

#[test]
fn times_may_stand_for_never() {
    on_each_kind(|setup| {
        let never = Duration::MAX;
        let limits = Limits { handshake_timeout: never, ping_interval: never, close_timeout: never, ..limits() };
        let server = setup.start_with(1, limits);
        // Slots whose first heartbeat is spread over the whole interval, and slots used again.
        for _ in 0..2 {
            let clients: Vec<_> = (0..50).map(|_| server.client()).collect();
            clients.into_iter().for_each(Client::close);
            server.wait_until_empty();
        }
        let mut client = server.client();
        server.handle().drain(never);
        assert_eq!(client.frame().close().0, Some(1001));
        client.send(frame::close(1001, ""));
        client.ended();
        server.join();
    });
}

/// Subscribes, publishes and speaks before it has answered the request.
struct Hasty;

impl Handler for Hasty {
    type Connection = ();

    fn on_request(&mut self, context: &mut Context<'_>, _: &mut (), request: &Request<'_>) -> Answer {
        context.subscribe("room").expect("within the limits");
        context.publish("room", "to all");
        match request.path {
            "/leave" => context.unsubscribe("room"),
            "/say" => context.send("hello"),
            "/close" => context.close(4000, "not you"),
            "/terminate" => context.terminate(),
            "/refused" => return Answer::Respond(Response::text(403, "no\n")),
            _ => {}
        }
        Answer::upgrade()
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.publish("room", message);
    }
}

/// The request of [`client::REQUEST`] for another path.
fn request(path: &str) -> String {
    client::REQUEST.replacen("GET / ", &format!("GET {path} "), 1)
}

#[test]
fn what_is_asked_for_with_a_request_comes_behind_its_answer() {
    on_each_kind(|setup| {
        let server = setup.start_handler(1, limits(), channel().1, |_| Hasty);
        for (path, expected) in [("/leave", vec!["to all"]), ("/say", vec!["to all", "hello"])] {
            let mut client = server.tcp();
            client.send(request(path));
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            for text in expected {
                assert_eq!(client.text(), text);
            }
            client.close();
            server.wait_until_empty();
        }
        let mut client = server.tcp();
        // The peer may be ahead of everything.
        client.send([request("/close").into_bytes(), frame::close(4000, "")].concat());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.text(), "to all");
        assert_eq!(client.closed(), Some(4000));
        let mut client = server.tcp();
        client.send(request("/terminate"));
        client.drain_bytes();
        server.wait_until_empty();
    });
}

#[test]
fn who_is_refused_is_not_subscribed() {
    on_each_kind(|setup| {
        let server = setup.start_handler(1, limits(), channel().1, |_| Hasty);
        let mut inside = server.client();
        assert_eq!(inside.text(), "to all");
        let mut refused = server.tcp();
        refused.send(request("/refused"));
        let response = refused.response();
        assert_eq!((response.status, response.body.as_str()), (403, "no\n"));
        assert_eq!(inside.text(), "to all");
        assert_eq!(inside.ask("a secret"), "a secret");
        refused.ended();
        drop(refused);
        inside.close();
        server.wait_until_empty();
    });
}

/// Answers with a body that does not fit into the buffers of the kernel.
struct Book;

const BOOK_BYTES: usize = 32 << 20;

impl Handler for Book {
    type Connection = ();

    fn on_request(&mut self, _: &mut Context<'_>, _: &mut (), request: &Request<'_>) -> Answer {
        match request.path {
            "/book" => Answer::Respond(Response::text(200, "x".repeat(BOOK_BYTES))),
            _ => Answer::upgrade(),
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        match message.payload() {
            b"book" => context.send(&vec![b'x'; BOOK_BYTES]),
            _ => context.send(message),
        }
    }
}

#[test]
fn who_has_said_everything_still_gets_the_whole_answer() {
    on_each_kind(|setup| {
        let server = setup.start_handler(1, limits(), channel().1, |_| Book);
        let mut client = server.tcp();
        client.send("GET /book HTTP/1.1\r\nHost: a\r\n\r\n");
        client.finish();
        // The end of the request has come long before the end of the answer.
        server.wait_for("the request is read", |stats| stats.bytes_received > 0);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(client.response().body.len(), BOOK_BYTES);
        client.ended();

        // A hot connection hears of the end of the stream by itself.
        for warm_up in [0, 20] {
            let mut client = server.client();
            for _ in 0..warm_up {
                assert_eq!(client.ask("hello"), "hello");
            }
            client.send([frame::masked(frame::TEXT, b"book"), frame::close(1000, "")].concat());
            client.finish();
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(client.frame().payload.len(), BOOK_BYTES);
            assert_eq!(client.closed(), Some(1000));
        }
        server.wait_until_empty();
    });
}

#[test]
fn the_close_frame_leaves_whatever_the_outbox_drops() {
    on_each_kind(|setup| {
        for slow_consumer in [SlowConsumer::Disconnect, SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
            let server = setup.start_with(1, Limits { outbox_bytes_max: 100_000, slow_consumer, ..limits() });
            let mut client = server.client();
            // The first message is on its way, some of the others wait, the last ones find no room.
            client.say("flood 1 20000000\nflood 90 1000\nflood 20 1000\nclose 4000 bye");
            assert_eq!(client.frame().payload.len(), 20_000_000);
            let mut frame = client.frame();
            while frame.first == frame::BINARY {
                frame = client.frame();
            }
            assert_eq!(frame.close().0, Some(4000), "{slow_consumer:?}");
            client.send(frame::close(4000, ""));
            client.ended();
            server.wait_until_empty();
        }
    });
}

#[test]
fn to_a_slow_consumer_nothing_is_sent_behind_what_was_dropped() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { outbox_bytes_max: 100_000, ..limits() });
        let mut client = server.client();
        client.say("flood 1 20000000\nflood 200 1000");
        assert_eq!(client.frame().payload.len(), 20_000_000);
        assert_eq!(client.frame().close().0, Some(1013));
        client.send(frame::close(1013, ""));
        client.ended();
        assert_eq!(server.closed(), (1013, String::new(), CloseCause::SlowConsumer));
        server.wait_until_empty();
        assert_eq!(server.stats().closed_slow, 1);
    });
}

/// Fills the inbox of its own core, and then ends the engine.
struct Flood;

impl Handler for Flood {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        while context.handle().send(context.id(), "once more").is_ok() {}
        context.handle().drain(Duration::ZERO);
    }
}

#[test]
fn a_handler_may_drain_though_the_inbox_is_full() {
    on_each_kind(|setup| {
        let server = setup.start_handler(1, limits(), channel().1, |_| Flood);
        // Without patience the end may come within a frame.
        server.client().drain_bytes();
        server.join();
    });
}

/// Panics on one core when it is told to, as a worker ends that can't go on.
struct Fragile(CoreId);

impl Handler for Fragile {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        assert_ne!(message.payload(), b"panic");
        context.send(&self.0.to_string());
    }
}

#[test]
fn when_one_core_has_ended_the_engine_has() {
    on_each_kind(|setup| {
        for core in 0..2 {
            let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(2).limits(limits());
            let running = engine.descriptors(setup.descriptors).start(Fragile).expect("the engine starts");
            let address = running.address();
            let mut victim = loop {
                let mut client = Client::connect(address);
                if client.ask("core") == core.to_string() {
                    break client;
                }
            };
            victim.say("panic");
            let error = running.join().expect_err("a core has failed");
            assert!(matches!(error, Error::Panicked(CoreId(failed)) if failed == core), "{error}");
        }
    });
}

#[test]
fn a_slow_reader_that_reads_is_not_taken_for_dead() {
    on_each_kind(|setup| {
        let ping_interval = Duration::from_secs(1);
        let limits = Limits { ping_interval, outbox_bytes_max: 64 << 20, ..limits() };
        let server = setup.start_with(1, limits);
        let mut client = Client::tcp_with_window(server.address(), 16 * 1024).upgraded();
        // While so much waits for it nothing is read from it, so that it can't answer a ping.
        client.say("flood 1000 60000");
        for _ in 0..1000 {
            let frame = client.frame();
            assert_eq!((frame.first, frame.payload.len()), (frame::BINARY, 60_000));
            std::thread::sleep(Duration::from_millis(4));
        }
        client.close();
    });
}

#[test]
fn one_connection_too_many_is_closed_at_once() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { connections_per_core_max: Some(2), ..limits() });
        let clients = [server.client(), server.client()];
        for _ in 0..100 {
            server.tcp().drain_bytes();
        }
        assert_eq!(server.stats().refused_full, 100);
        clients.into_iter().for_each(Client::close);
        server.wait_until_empty();
        server.client().close();
    });
}

/// Has two subscriptions, which it ends at the next message, and a message to send that takes its time.
struct Parting;

const PARTING_BYTES: usize = 16 << 20;

impl Handler for Parting {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        match message.payload() {
            b"much" => {
                context.subscribe("one").expect("within the limits");
                context.subscribe("two").expect("within the limits");
                context.send(&vec![1; PARTING_BYTES]);
                context.send(&vec![2; PARTING_BYTES]);
            }
            b"leave" => {
                context.unsubscribe("one");
                context.unsubscribe("two");
            }
            _ => context.send(message),
        }
    }
}

#[test]
fn a_slow_reader_that_leaves_its_topics_is_heard_again() {
    on_each_kind(|setup| {
        let limits = Limits { outbox_bytes_max: PARTING_BYTES + 1024, ..limits() };
        let server = setup.start_handler(1, limits, channel().1, |_| Parting);
        let mut client = server.client();
        client.say("much");
        // The first of the two messages is read, so that the second is on its way and the outbox empty.
        assert_eq!(client.frame().payload.len(), PARTING_BYTES);
        let received = server.stats().bytes_received;
        client.say("leave");
        server.wait_for("the second message is received", |stats| stats.bytes_received > received);
        assert_eq!(client.frame().payload.len(), PARTING_BYTES);
        assert_eq!(client.ask("hello"), "hello");
        client.close();
    });
}

#[test]
fn a_burst_from_who_reads_is_answered_whole() {
    on_each_kind(|setup| {
        // Everything that comes within a turn is several times what may wait.
        let server = setup.start_with(1, Limits { outbox_bytes_max: 200_000, ..limits() });
        for end in [true, false] {
            let mut client = server.client();
            for _ in 0..20 {
                client.ask("it gets hot");
            }
            client.answers_pings = false;
            let message = |number: u32| frame::masked(frame::BINARY, &number.to_be_bytes().repeat(1000));
            let mut burst: Vec<u8> = (0..2000).flat_map(message).collect();
            if end {
                burst.extend(frame::close(1000, ""));
            }
            let sender = client.send_aside(burst);
            for number in 0..2000u32 {
                let mut frame = client.frame();
                while frame.first == frame::PING {
                    frame = client.frame();
                }
                assert_eq!((frame.first, frame.payload), (frame::BINARY, number.to_be_bytes().repeat(1000)));
            }
            sender.join().expect("everything is sent");
            client.answers_pings = true;
            if end {
                assert_eq!(client.closed(), Some(1000));
            } else {
                assert_eq!(client.ask("still here"), "still here");
                client.close();
            }
        }
        server.wait_until_empty();
        let stats = server.stats();
        assert_eq!((stats.closed_slow, stats.messages_dropped), (0, 0));
    });
}

#[test]
fn what_was_said_before_an_end_is_heard() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { outbox_bytes_max: 20_000, ..limits() });
        let mut client = server.client();
        for _ in 0..20 {
            client.ask("it gets hot");
        }
        let burst: Vec<u8> = (0..500).flat_map(|_| frame::masked(frame::BINARY, &[7; 4000])).collect();
        client.answers_pings = false;
        let sender = client.send_aside(burst);
        let mut heard = 0;
        while heard < 10 {
            heard += u32::from(client.frame().first == frame::BINARY);
        }
        sender.join().expect("everything is sent");
        client.finish();
        client.drain_bytes();
        server.wait_until_empty();
        assert_eq!(server.stats().messages_received, 520, "of 20 and 500");
    });
}
