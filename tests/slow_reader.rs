//! Clients that read more slowly than they are sent to: each policy, the bounds it keeps, and that
//! nobody else notices.

use std::time::Duration;

use crore_engine::{CloseCause, Limits, Overflow, OwnedMessage, Publication, SlowConsumer};
use crore_tests::frame::{self, BINARY, CLOSE, PING, PONG, TEXT, masked};
use crore_tests::{Client, Event, Frame, Server, limits, on_each_kind};

/// Bytes of a message that the tests publish. Ten megabytes of them are more than the kernel buffers
/// for a connection, so that the outbox has to take what is left.
const MESSAGE_BYTES: usize = 10_000;
const MESSAGES: u32 = 2_000;

fn policy(slow_consumer: SlowConsumer) -> Limits {
    Limits { slow_consumer, outbox_bytes_max: 1 << 20, ..limits() }
}

/// A message that starts with its number.
fn numbered(number: u32) -> Vec<u8> {
    let mut payload = vec![b'.'; MESSAGE_BYTES];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

fn number(frame: &Frame) -> u32 {
    assert_eq!((frame.first, frame.payload.len()), (BINARY, MESSAGE_BYTES));
    u32::from_be_bytes(*frame.payload.first_chunk().expect("a number"))
}

/// A subscriber that does not read until it is told to, with a small window.
fn slow_subscriber(server: &Server) -> Client {
    let mut client = Client::tcp_with_window(server.address(), 4096).upgraded();
    assert_eq!(client.ask("subscribe news"), "subscribed");
    client
}

/// Publishes numbered messages in lockstep with a subscriber that reads, so that each is a turn of its own.
fn publish(server: &Server, reader: &mut Client, numbers: std::ops::Range<u32>) {
    for n in numbers {
        server.handle().publish("news", OwnedMessage::binary(numbered(n))).expect("room for a command");
        assert_eq!(number(&reader.frame()), n, "a subscriber that reads gets everything");
    }
}

/// The same with a policy for each message.
fn publish_with(
    server: &Server,
    reader: &mut Client,
    topic: &str,
    numbers: std::ops::Range<u32>,
    overflow: impl Fn(u32) -> Overflow,
) {
    for n in numbers {
        let publication = Publication { overflow: overflow(n), ..Publication::default() };
        let message = OwnedMessage::binary(numbered(n));
        server.handle().publish_with(topic, message, publication).expect("room for a command");
        assert_eq!(number(&reader.frame()), n, "a subscriber that reads gets everything");
    }
}

/// What a client hears until an answer: numbers, and gaps of the topic `news`.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Number(u32),
    Gap(u32),
}

fn heard(client: &mut Client) -> Vec<Heard> {
    client.say("no more");
    let mut heard = Vec::new();
    loop {
        let frame = client.frame();
        match (frame.first, std::str::from_utf8(&frame.payload)) {
            (TEXT, Ok("no more")) => return heard,
            (TEXT, Ok(text)) => {
                let dropped = text.strip_prefix("gap news ").expect("a gap").parse().expect("a number");
                heard.push(Heard::Gap(dropped));
            }
            _ => heard.push(Heard::Number(number(&frame))),
        }
    }
}

/// Everything that was published is there or announced, in its place.
fn assert_all_accounted(heard: &[Heard], count: u32) {
    let mut next = 0;
    for one in heard {
        match one {
            Heard::Number(number) => {
                assert_eq!(*number, next, "what is missing before it is announced");
                next += 1;
            }
            Heard::Gap(dropped) => next += dropped,
        }
    }
    assert_eq!(next, count, "also what is missing at the end");
}

fn reader(server: &Server) -> Client {
    let mut reader = server.client();
    assert_eq!(reader.ask("subscribe news"), "subscribed");
    reader
}

/// The numbers of the next messages, so many of them; and that nothing but an answer follows them.
fn numbers(client: &mut Client, count: u64) -> Vec<u32> {
    let numbers = (0..count).map(|_| number(&client.frame())).collect();
    assert_eq!(client.ask("no more"), "no more");
    numbers
}

#[test]
fn who_is_too_slow_is_disconnected_with_1013() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish(&server, &mut reader, 0..MESSAGES);
        server.wait_for("it is given up", |stats| stats.closed_slow == 1);
        // What had left by then arrives, in order and without a gap; then the code.
        let mut next = 0;
        let code = loop {
            let frame = slow.frame();
            if frame.first == CLOSE {
                break frame.close().0;
            }
            assert_eq!(number(&frame), next);
            next += 1;
        };
        assert_eq!(code, Some(1013));
        assert!(next < MESSAGES);
        let closing =
            |event: &Event| matches!(event, Event::Closing { code: 1013, cause: CloseCause::SlowConsumer, .. });
        assert_eq!(server.events_so_far().iter().filter(|event| closing(event)).count(), 1);
        slow.send(frame::close(1013, ""));
        slow.ended();
        assert_eq!(server.closed(), (1013, String::new(), CloseCause::SlowConsumer));
        assert!(server.stats().messages_dropped > 0);
        assert_eq!(reader.ask("still here"), "still here");
    });
}

#[test]
fn nothing_follows_a_gap_but_1013() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        let id = server.opened();
        // All of it reaches the worker within few turns.
        for n in 0..MESSAGES {
            server.handle().send(id, numbered(n)).expect("room for a command");
        }
        server.wait_for("it is given up", |stats| stats.closed_slow == 1);
        let mut next = 0;
        let code = loop {
            let frame = slow.frame();
            if frame.first == CLOSE {
                break frame.close().0;
            }
            assert_eq!(number(&frame), next);
            next += 1;
        };
        assert_eq!(code, Some(1013));
    });
}

#[test]
fn who_is_too_slow_for_the_close_frame_is_cut() {
    on_each_kind(|setup| {
        let limits = Limits { close_timeout: Duration::from_millis(200), ..policy(SlowConsumer::Disconnect) };
        let server = setup.start_with(1, limits);
        let (slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish(&server, &mut reader, 0..MESSAGES);
        assert_eq!(server.closed(), (1006, String::new(), CloseCause::SlowConsumer));
        server.wait_for("it has gone", |stats| stats.connections == 1);
        drop(slow);
    });
}

#[test]
fn the_newest_messages_are_dropped() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::DropNewest));
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish(&server, &mut reader, 0..MESSAGES);
        let dropped = server.stats().messages_dropped;
        assert!(dropped > 0);
        let numbers_heard = numbers(&mut slow, u64::from(MESSAGES) - dropped);
        assert!((0..).zip(numbers_heard).all(|(expected, number)| number == expected), "the oldest, without a gap");
        publish(&server, &mut reader, 0..3);
        assert_eq!(numbers(&mut slow, 3), [0, 1, 2], "it gets the next ones again");
    });
}

#[test]
fn the_oldest_messages_are_dropped() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::DropOldest));
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish(&server, &mut reader, 0..MESSAGES);
        let dropped = server.stats().messages_dropped;
        assert!(dropped > 0);
        let numbers = numbers(&mut slow, u64::from(MESSAGES) - dropped);
        assert!(numbers.is_sorted_by(|earlier, later| earlier < later), "order is kept");
        // The outbox holds the last ones, a megabyte of them, less their headers.
        let last: Vec<u32> = (MESSAGES - 100..MESSAGES).collect();
        assert!(numbers.ends_with(&last));
    });
}

#[test]
fn messages_are_bounded_by_number_too() {
    on_each_kind(|setup| {
        let limits = Limits { outbox_messages_max: 5, ..policy(SlowConsumer::DropNewest) };
        let server = setup.start_with(1, limits);
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish(&server, &mut reader, 0..MESSAGES);
        let dropped = server.stats().messages_dropped;
        assert!(dropped > 0);
        assert!(
            numbers(&mut slow, u64::from(MESSAGES) - dropped)
                .into_iter()
                .enumerate()
                .all(|(n, number)| n == number as usize)
        );
    });
}

#[test]
fn a_close_frame_is_not_dropped_with_the_messages_before_it() {
    on_each_kind(|setup| {
        for slow_consumer in [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Disconnect] {
            // Nothing fits into the outbox but what is exempt from its bounds.
            let limits = Limits { outbox_messages_max: 0, ..policy(slow_consumer) };
            let server = setup.start_with(1, limits);
            let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
            slow.answers_pings = false;
            slow.say("flood 1 20000000");
            slow.send([masked(PING, b"exempt"), masked(TEXT, b"say too much\nclose 1000 bye")].concat());
            assert_eq!(slow.frame().payload.len(), 20_000_000, "what has begun to leave is not cut off");
            // The pong may have given way to the close frame, which is the later control frame.
            let code = loop {
                let frame = slow.frame();
                match frame.first {
                    CLOSE => break frame.close().0,
                    PING | PONG => {}
                    _ => panic!("{} bytes too many, with {slow_consumer:?}", frame.payload.len()),
                }
            };
            assert!(matches!(code, Some(1000 | 1013)), "{code:?}");
        }
    });
}

// capability: 65 66
#[test]
fn who_does_not_read_is_not_read_from_and_loses_nothing() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
        let mut bystander = server.client();
        for chunk in [100_000, 100] {
            let mut client = Client::tcp_with_window(server.address(), 4096).upgraded();
            for _ in 0..20 {
                client.ask("it gets hot");
            }
            let message = masked(BINARY, &vec![7; chunk]);
            let sent = client.send_until_blocked(&message, 400 << 20);
            assert!(sent < 400 << 20, "the server does not read on for ever");
            assert_eq!(bystander.ask("still here"), "still here");
            for _ in 0..sent / message.len() {
                let frame = client.frame();
                assert_eq!((frame.first, frame.payload.len()), (BINARY, chunk));
            }
            assert_eq!(server.stats().messages_dropped, 0, "messages of {chunk} bytes");
        }
        assert!(server.events_so_far().contains(&Event::Writable));
    });
}

#[test]
fn who_reads_again_is_read_from_again() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { outbox_bytes_max: 40 << 20, ..limits() });
        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        let id = server.opened();
        // Enough to fill the kernel's buffers and most of the outbox.
        let first = 3_000;
        for n in 0..first {
            server.handle().send(id, numbered(n)).expect("room for a command");
        }
        // While it reads, more comes now and then: at whatever moment, it must be heard at the end.
        let mut last = first;
        for n in 0..first {
            assert_eq!(number(&slow.frame()), n);
            if n % 10 == 0 {
                server.handle().send(id, numbered(last)).expect("room for a command");
                last += 1;
            }
        }
        assert!(numbers(&mut slow, u64::from(last - first)).into_iter().eq(first..last));
        let writable = server.events_so_far().into_iter().filter(|event| *event == Event::Writable).count();
        assert!(writable >= 1, "the handler is told that it may go on");
    });
}

#[test]
fn a_slow_reader_that_reads_on_outlives_its_heartbeats() {
    on_each_kind(|setup| {
        let limits = Limits { ping_interval: Duration::from_millis(500), outbox_bytes_max: 40 << 20, ..limits() };
        let server = setup.start_with(1, limits);
        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        let id = server.opened();
        for n in 0..3_000 {
            server.handle().send(id, numbered(n)).expect("room for a command");
        }
        let pings = server.stats().pings_sent;
        let mut next = 0;
        // The pings wait behind what it has not read, but it takes what it is sent.
        while next < 3_000 && server.stats().pings_sent < pings + 3 {
            assert_eq!(number(&slow.frame()), next);
            next += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(server.stats().pings_sent >= pings + 3, "it has been slow enough");
        assert_eq!(server.stats().closed_ping_timeout, 0);
    });
}

#[test]
fn a_message_that_takes_longer_than_its_heartbeats_arrives() {
    const BYTES: usize = 40_000_000;
    on_each_kind(|setup| {
        let limits = Limits { ping_interval: Duration::from_millis(500), ..limits() };
        let server = setup.start_with(1, limits);
        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        slow.say(&format!("flood 1 {BYTES}"));
        let pings = server.stats().pings_sent;
        // The pings wait behind it, and nothing else shows that the client is there but what it takes.
        while server.stats().pings_sent < pings + 4 {
            slow.sip();
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(server.stats().closed_ping_timeout, 0);
        assert_eq!(slow.frame().payload.len(), BYTES);
    });
}

#[test]
fn no_message_is_too_large_for_an_outbox_with_room() {
    on_each_kind(|setup| {
        for slow_consumer in [SlowConsumer::Disconnect, SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
            let server = setup.start_with(1, policy(slow_consumer));
            let mut client = server.client();
            // Within one turn: the first is on its way and the second waits, though the bound is a megabyte.
            client.say("flood 2 8000000");
            assert_eq!(client.frame().payload.len(), 8_000_000);
            assert_eq!(client.frame().payload.len(), 8_000_000);
            assert_eq!(client.ask("hello"), "hello");
            let stats = server.stats();
            assert_eq!((stats.closed_slow, stats.messages_dropped), (0, 0), "{slow_consumer:?}");
        }
    });
}

#[test]
fn a_slow_reader_that_has_gone_is_cut_by_its_heartbeat() {
    on_each_kind(|setup| {
        let limits = Limits { ping_interval: Duration::from_millis(300), ..policy(SlowConsumer::DropNewest) };
        let server = setup.start_with(1, limits);
        let slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        let id = server.opened();
        for n in 0..1_000 {
            server.handle().send(id, numbered(n)).expect("room for a command");
        }
        assert_eq!(server.closed(), (1006, String::new(), CloseCause::PingTimeout));
        server.wait_until_empty();
        drop(slow);
    });
}

#[test]
fn a_slow_reader_may_vanish() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::DropOldest));
        let mut reader = reader(&server);
        for go in [Client::reset, drop] {
            let slow = slow_subscriber(&server);
            publish(&server, &mut reader, 0..MESSAGES);
            go(slow);
            server.wait_for("it has gone", |stats| stats.connections == 1);
        }
        assert_eq!(reader.ask("still here"), "still here");
    });
}

// capability: 66
#[test]
fn what_a_topic_drops_is_announced_in_its_place() {
    on_each_kind(|setup| {
        for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
            // A topic's policy counts, whatever holds for the rest.
            let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
            let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
            publish_with(&server, &mut reader, "news", 0..MESSAGES, |_| overflow);
            let before = heard(&mut slow);
            assert_all_accounted(&before, MESSAGES);
            let is_gap = |one: &Heard| matches!(one, Heard::Gap(_));
            assert!(before.windows(2).all(|two| !two.iter().all(is_gap)), "what is missing in one place is one gap");
            let gaps = before.iter().filter(|one| is_gap(one)).count();
            match overflow {
                Overflow::DropNewest => assert_eq!(before.first(), Some(&Heard::Number(0))),
                _ => assert_eq!(before.last(), Some(&Heard::Number(MESSAGES - 1))),
            }
            publish_with(&server, &mut reader, "news", 0..3, |_| overflow);
            assert_eq!(heard(&mut slow), [Heard::Number(0), Heard::Number(1), Heard::Number(2)], "all is well again");
            let stats = server.stats();
            assert_eq!((stats.closed_slow, stats.gaps_announced), (0, gaps as u64));
            assert!(stats.messages_dropped > 0);
        }
    });
}

// capability: 66
#[test]
fn of_each_key_the_newest_arrives() {
    const KEYS: u32 = 7;
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish_with(&server, &mut reader, "news", 0..MESSAGES, |n| Overflow::Conflate(u64::from(n % KEYS)));
        let heard: Vec<u32> = heard(&mut slow)
            .into_iter()
            .map(|heard| match heard {
                Heard::Number(number) => number,
                Heard::Gap(_) => panic!("what a newer one has replaced is not missing"),
            })
            .collect();
        for key in 0..KEYS {
            let of_key: Vec<u32> = heard.iter().copied().filter(|number| number % KEYS == key).collect();
            assert!(of_key.is_sorted_by(|earlier, later| earlier < later), "one key keeps its order");
            let newest = (0..MESSAGES).rev().find(|number| number % KEYS == key);
            assert_eq!(of_key.last().copied(), newest, "and ends with what is newest");
        }
        let stats = server.stats();
        assert_eq!((stats.closed_slow, stats.messages_dropped), (0, 0));
        assert_eq!(stats.messages_conflated, u64::from(MESSAGES) - heard.len() as u64);
        assert!(stats.messages_conflated > 0);
    });
}

// capability: 66
#[test]
fn a_topic_that_drops_costs_nobody_a_reply_and_is_not_read_from_less() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::Disconnect));
        let (mut slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish_with(&server, &mut reader, "news", 0..MESSAGES, |_| Overflow::DropNewest);
        // Its outbox is full of what may be dropped: it is heard nevertheless, and answered.
        for n in 0..20 {
            slow.say(&format!("say reply {n}"));
        }
        slow.say("unsubscribe news");
        slow.send(masked(PING, b"still there?"));
        server.wait_for("it has been heard", |stats| stats.topics == 1 && stats.messages_received >= 23);
        let mut replies = 0;
        let mut pongs = 0;
        slow.answers_pings = false;
        while pongs == 0 {
            let frame = slow.frame();
            match frame.first {
                PONG => pongs += 1,
                TEXT if frame.payload.starts_with(b"reply ") => {
                    assert_eq!(frame.payload, format!("reply {replies}").as_bytes());
                    replies += 1;
                }
                _ => {}
            }
        }
        assert_eq!((replies, server.stats().closed_slow), (20, 0));
    });
}

// capability: 66
#[test]
fn a_topic_may_want_slow_consumers_to_be_disconnected() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, policy(SlowConsumer::DropNewest));
        let (slow, mut reader) = (slow_subscriber(&server), reader(&server));
        publish_with(&server, &mut reader, "news", 0..MESSAGES, |_| Overflow::Disconnect);
        server.wait_for("it is given up", |stats| stats.closed_slow == 1);
        drop(slow);
    });
}
