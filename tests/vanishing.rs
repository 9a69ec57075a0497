//! Clients that go without a word, at every step of a connection's life, and clients that stay and say
//! nothing. Nobody else notices, and nothing of them is left.

use std::time::Duration;

use crore_engine::{CloseCause, Limits};
use crore_tests::client::REQUEST;
use crore_tests::frame::{self, BINARY, PING, PONG, TEXT, fragment, header, masked};
use crore_tests::{Client, Event, Heard, Server, limits, on_each_kind, system, wait_until};

/// A step of a connection's life: its name, how to come there, and whether it is open then.
type Step = (&'static str, fn(&Server) -> Client, bool);

const STEPS: [Step; 20] = [
    ("nothing was said", Server::tcp, false),
    ("in the middle of the request", |server| after(server.tcp(), &REQUEST[..50]), false),
    ("behind the request", |server| after(server.tcp(), REQUEST), false),
    ("behind a request and frames", |server| after(after(server.tcp(), REQUEST), masked(TEXT, b"hello")), false),
    ("in the middle of a request that is too long", |server| after(server.tcp(), vec![b'x'; 100_000]), false),
    ("behind a plain request", |server| after(server.tcp(), "GET /page HTTP/1.1\r\nHost: a\r\n\r\n"), false),
    (
        "behind the answer to a plain request",
        |server| {
            let mut client = after(server.tcp(), "GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status, 200);
            client
        },
        false,
    ),
    ("open", Server::client, true),
    ("in the middle of a header", |server| after(server.client(), &header(BINARY, 70_000)[..5]), true),
    ("behind a header", |server| after(server.client(), header(BINARY, 70_000)), true),
    ("in the middle of a payload", |server| after(server.client(), &masked(BINARY, &[1; 70_000])[..60_000]), true),
    ("in the middle of a message", |server| after(server.client(), masked(fragment::TEXT, b"hel")), true),
    ("in the middle of a ping", |server| after(server.client(), &masked(PING, &[1; 100])[..50]), true),
    ("with an echo that was not read", |server| after(server.client(), masked(TEXT, b"hello")), true),
    ("with much that was not read", |server| after(server.client(), masked(TEXT, b"flood 100 100000")), true),
    (
        "hot, and subscribed",
        |server| {
            let mut client = server.client();
            for _ in 0..20 {
                client.ask("again");
            }
            client.ask("subscribe news");
            client
        },
        true,
    ),
    ("behind its close frame", |server| after(server.client(), frame::close(1000, "")), true),
    ("behind the close frame of the server", |server| after(server.client(), masked(TEXT, b"close 1000 bye")), true),
    ("behind a breach of the protocol", |server| after(server.client(), masked(0x83, b"")), true),
    (
        "behind the answer to a breach",
        |server| {
            let mut client = after(server.client(), masked(0x83, b""));
            assert_eq!(client.closed(), Some(1002));
            client
        },
        true,
    ),
];

fn after(mut client: Client, bytes: impl AsRef<[u8]>) -> Client {
    client.send(bytes);
    client
}

#[test]
fn clients_may_vanish_at_every_step() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { outbox_bytes_max: 64 << 20, ..limits() });
        let mut bystander = server.client();
        bystander.ask("subscribe news");
        let mut opened = 0;
        for (name, come_to, open) in STEPS {
            println!("{name}");
            for (round, go) in [Client::reset, drop, reset_after_finish].into_iter().cycle().take(9).enumerate() {
                let client = come_to(&server);
                opened += u32::from(open);
                server.handle().publish("news", name).expect("room for a command");
                if round >= 3 {
                    // By now the server has done what it does at this step.
                    assert_eq!(bystander.text(), name);
                    go(client);
                } else {
                    go(client);
                    assert_eq!(bystander.text(), name);
                }
                assert_eq!(bystander.ask("still here"), "still here");
            }
        }
        server.wait_for("all others have gone", |stats| stats.connections == 1);
        let mut open = 0;
        let mut closed = 0;
        for event in server.events_so_far() {
            match event {
                Event::Opened(_) => open += 1,
                Event::Closed { cause, .. } => {
                    closed += 1;
                    let told = [CloseCause::Lost, CloseCause::Peer, CloseCause::Application, CloseCause::Protocol];
                    assert!(told.contains(&cause), "{cause:?}");
                }
                _ => {}
            }
        }
        assert_eq!(open, closed + 1, "each one that was opened is told as closed, once");
        assert!(open > opened, "those that were open, and the bystander");
        bystander.close();
        server.wait_until_empty();
    });
}

fn reset_after_finish(mut client: Client) {
    client.finish();
    client.reset();
}

// capability: 33
#[test]
fn who_does_not_finish_the_handshake_is_cut() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { handshake_timeout: Duration::from_millis(200), ..limits() });
        let mut bystander = server.client();
        let mut silent = server.tcp();
        let mut cut_short = after(server.tcp(), &REQUEST[..REQUEST.len() - 1]);
        // A byte now and then does not keep the time-out away.
        let mut trickling = server.tcp();
        let mut bytes = REQUEST.bytes().cycle();
        wait_until("it is cut", || {
            std::thread::sleep(Duration::from_millis(10));
            trickling.try_send([bytes.next().expect("a cycle")]).is_err()
        });
        for client in [&mut silent, &mut cut_short] {
            assert!(matches!(client.hear(), Heard::End | Heard::Reset));
        }
        server.wait_for("they have gone", |stats| stats.connections == 1);
        assert_eq!(server.stats().closed_timeout, 3);
        assert_eq!(bystander.ask("still here"), "still here", "who has finished it stays");
        let opened = server.events_so_far().into_iter().filter(|event| matches!(event, Event::Opened(_))).count();
        assert_eq!(opened, 1, "the bystander");
    });
}

#[test]
fn ten_thousand_handshakes_that_stand_still_disturb_nobody() {
    // Both ends of every connection are in this process, and each may need a descriptor.
    let room = (system::raise_descriptor_limit().saturating_sub(500) / 2).min(10_000);
    let count = usize::try_from(room).expect("small");
    on_each_kind(|setup| {
        let limits = Limits { handshake_timeout: Duration::from_secs(1), connections_per_core_max: None, ..limits() };
        let server = setup.start_with(1, limits);
        let mut bystander = server.client();
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let part = &REQUEST[..index % (REQUEST.len() - 1)];
            clients.push(server.tcp());
            let _ = clients[index].try_send(part);
            if index % 100 == 0 {
                assert_eq!(bystander.ask("still here"), "still here");
            }
        }
        server.wait_for("they are cut", |stats| stats.connections == 1);
        assert_eq!(server.stats().closed_timeout, count as u64);
        for client in clients.iter_mut().step_by(97) {
            assert!(matches!(client.hear(), Heard::End | Heard::Reset));
        }
        assert_eq!(bystander.ask("still here"), "still here");
    });
}

/// Limits with heartbeats that a test can wait for.
fn beating() -> Limits {
    Limits { ping_interval: Duration::from_millis(700), ..limits() }
}

// capability: 23
#[test]
fn who_answers_no_heartbeat_is_cut() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { ping_interval: Duration::from_millis(300), ..limits() });
        let mut silent = server.client();
        silent.answers_pings = false;
        let mut hot = server.client();
        for _ in 0..20 {
            hot.ask("again");
        }
        hot.answers_pings = false;
        for client in [&mut silent, &mut hot] {
            assert_eq!(client.frame().first, PING);
            client.drain();
        }
        for _ in 0..2 {
            assert_eq!(server.closed(), (1006, String::new(), CloseCause::PingTimeout));
        }
        server.wait_until_empty();
        assert_eq!(server.stats().closed_ping_timeout, 2);
    });
}

#[test]
fn who_says_anything_stays() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, beating());
        let mut pongs = server.client();
        let mut talks = server.client();
        let mut trickles = server.client();
        talks.answers_pings = false;
        trickles.answers_pings = false;
        // In the middle of a long frame there is no place for a pong.
        trickles.send(header(BINARY, 100_000));
        while server.stats().pings_sent < 9 {
            talks.send(masked(PONG, b"unasked"));
            trickles.send([0]);
            // Heartbeats are answered on the way to the echo.
            assert_eq!(pongs.ask("hello"), "hello");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.stats().connections_open, 3);
        assert_eq!(server.stats().closed_ping_timeout, 0);
        let heard = server.events_so_far();
        assert!(heard.iter().any(|event| matches!(event, Event::Pong(_))), "round trips are told");
        talks.answers_pings = true;
        assert_eq!(talks.ask("still here"), "still here");
    });
}

#[test]
fn one_pong_for_each_heartbeat_is_told() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { ping_interval: Duration::from_secs(2), ..limits() });
        let mut client = server.client();
        client.answers_pings = false;
        let pongs = [masked(PONG, &[0; 8]), masked(PONG, &[0xff; 8]), masked(PONG, b"")].concat();
        client.send(&pongs);
        let ping = client.frame();
        assert_eq!(ping.first, PING);
        client.send([masked(PONG, &ping.payload), masked(PONG, &ping.payload), pongs].concat());
        assert_eq!(client.ask("hello"), "hello");
        let told = server.events_so_far().into_iter().filter(|event| matches!(event, Event::Pong(_))).count();
        assert_eq!(told, 1);
    });
}
