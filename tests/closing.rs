//! The close handshake in both directions, and every other way in which an open connection ends
//! (RFC 6455, sections 5.5.1 and 7).

use std::time::Duration;

use crore_engine::{CloseCause, ConnectionId, Limits, OwnedMessage};
use crore_tests::frame::{self, BINARY, CLOSE, PING, TEXT, masked};
use crore_tests::{Event, Heard, Server, limits, on_each_kind};

/// Limits under which a peer that says nothing is given up soon.
fn impatient() -> Limits {
    Limits { close_timeout: Duration::from_millis(200), ..limits() }
}

/// What the application has been told of ends so far: the code of each, and whether it is only beginning.
#[track_caller]
fn ends_so_far(server: &Server, of: ConnectionId) -> Vec<(bool, u16, CloseCause)> {
    let ends = server.events_so_far().into_iter().filter_map(|event| match event {
        Event::Closing { id, code, cause } if id == of => Some((true, code, cause)),
        Event::Closed { id, code, cause, .. } if id == of => Some((false, code, cause)),
        _ => None,
    });
    ends.collect()
}

// capability: 30
#[test]
fn who_has_the_close_frame_is_known_to_be_leaving_and_has_no_topics() {
    on_each_kind(|setup| {
        for cause in [CloseCause::Application, CloseCause::Drain] {
            let server = setup.start();
            for (asked, code) in [(4000, 4000), (1006, 1011)] {
                let mut client = server.client();
                let id = server.opened();
                assert_eq!(client.ask("subscribe news"), "subscribed");
                match cause {
                    CloseCause::Drain => server.handle().drain(Duration::from_secs(3600)),
                    _ if asked == code => client.say(&format!("close {asked} enough\nsubscribe more")),
                    _ => server.handle().close(id, asked, "enough").expect("room for a command"),
                }
                let code = if cause == CloseCause::Drain { 1001 } else { code };
                assert_eq!(client.frame().close().0, Some(code));
                // It has not answered, and nobody has to wait for what the application knows by now.
                assert_eq!(ends_so_far(&server, id), [(true, code, cause)]);
                server.wait_for("it subscribes to nothing", |stats| (stats.topics, stats.connections_open) == (0, 1));
                server.handle().publish("news", OwnedMessage::from("late")).expect("room for a command");
                client.send(frame::close(code, ""));
                client.ended();
                server.wait_until_empty();
                assert_eq!(ends_so_far(&server, id), [(false, code, cause)]);
                if cause == CloseCause::Drain {
                    break;
                }
            }
        }
    });
}

#[test]
fn what_the_peer_or_the_network_ends_is_told_when_it_has_ended() {
    on_each_kind(|setup| {
        let server = setup.start();
        let ends: [fn(&Server, &mut crore_tests::Client, ConnectionId); 5] = [
            |_, client, _| client.send(frame::close(1000, "")),
            |_, client, _| client.send(masked(0x83, b"a breach of the protocol")),
            |_, client, _| client.finish(),
            |_, client, _| client.say("terminate\nclose 1000 x"),
            |server, _, id| server.handle().terminate(id).expect("room for a command"),
        ];
        for end in ends {
            let mut client = server.client();
            let id = server.opened();
            end(&server, &mut client, id);
            client.drain();
            drop(client);
            server.wait_until_empty();
            let told = ends_so_far(&server, id);
            assert!(matches!(told[..], [(false, ..)]), "{told:?}");
        }
        // Who is closed and cut at once is told of both, in this order.
        let mut client = server.client();
        let id = server.opened();
        client.say("close 1000 x\nterminate");
        client.drain();
        server.wait_until_empty();
        let told = [(true, 1000, CloseCause::Application), (false, 1006, CloseCause::Application)];
        assert_eq!(ends_so_far(&server, id), told);
    });
}

#[test]
fn the_server_closes_and_the_peer_answers() {
    on_each_kind(|setup| {
        let server = setup.start();
        // The peer's answer counts: with the same code, with another one, with none.
        for (answer, code) in
            [(frame::close(4000, ""), 4000), (frame::close(3001, "fine"), 3001), (masked(CLOSE, b""), 1005)]
        {
            let mut client = server.client();
            client.say("close 4000 enough of this");
            assert_eq!(client.frame().close(), (Some(4000), "enough of this".to_owned()));
            client.send(answer);
            client.ended();
            let (closed, _, cause) = server.closed();
            assert_eq!((closed, cause), (code, CloseCause::Application));
        }
        server.wait_until_empty();
    });
}

#[test]
fn behind_the_close_frame_nothing_is_said_and_nothing_heard() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = server.client();
        client.say("close 1000 bye");
        assert_eq!(client.frame().close().0, Some(1000));
        client.send(masked(TEXT, b"late"));
        client.send(masked(PING, b"late"));
        client.send([masked(0x01, b"half a message"), masked(PING, b"")].concat());
        client.send(frame::close(1000, ""));
        client.ended();

        // The same within one write, and within the message that causes it.
        let mut client = server.client();
        client.send([masked(TEXT, b"close 1000 bye\nsay late"), masked(TEXT, b"later")].concat());
        assert_eq!(client.frame().close().0, Some(1000));
        client.send(frame::close(1000, ""));
        client.ended();

        // What a peer says behind its own close frame is not heard either.
        let mut client = server.client();
        client.send([frame::close(1000, ""), masked(TEXT, b"late")].concat());
        assert_eq!(client.closed(), Some(1000));
        server.wait_until_empty();
        let heard = server.events_so_far();
        assert!(!heard.iter().any(|event| matches!(event, Event::Message(..) | Event::Ping(_))), "{heard:?}");
    });
}

#[test]
fn both_may_close_at_once() {
    on_each_kind(|setup| {
        let server = setup.start();
        for _ in 0..20 {
            let mut client = server.client();
            let id = server.opened();
            server.handle().close(id, 4001, "server").expect("room for a command");
            client.send(frame::close(4002, "client"));
            // Either close frame may be on its way first; the other end answers or lets it be.
            let (code, _) = client.frame().close();
            assert!(code == Some(4001) || code == Some(4002), "{code:?}");
            client.ended();
            let (code, reason, _) = server.closed();
            assert_eq!((code, reason.as_str()), (4002, "client"));
        }
    });
}

// capability: 33
#[test]
fn a_peer_that_does_not_answer_is_cut() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, impatient());
        let mut client = server.client();
        client.say("close 1000 bye");
        assert_eq!(client.frame().close().0, Some(1000));
        // It goes on talking, which is no answer.
        for _ in 0..5 {
            let _ = client.try_send(masked(TEXT, b"not yet"));
        }
        assert_ne!(server.closed().2, CloseCause::Peer);
        client.drain();
        server.wait_until_empty();
        assert_eq!(server.stats().closed_timeout, 1);
    });
}

#[test]
fn a_peer_that_stays_behind_a_protocol_error_is_cut() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, impatient());
        let mut client = server.client();
        client.send(masked(0x83, b""));
        assert_eq!(client.closed(), Some(1002));
        // It neither ends its side nor says anything.
        server.wait_until_empty();
        let mut page = server.tcp();
        page.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(page.response().status, 200);
        server.wait_until_empty();
        drop((client, page));
    });
}

#[test]
fn a_protocol_error_during_the_close_handshake_ends_it() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = server.client();
        client.say("close 1000 bye");
        assert_eq!(client.frame().close().0, Some(1000));
        client.send(masked(0x83, b""));
        client.ended();
        drop(client);
        server.wait_until_empty();
    });
}

// capability: 30
#[test]
fn other_threads_close_and_terminate() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut closed = server.client();
        let id = server.opened();
        let handle = server.handle().clone();
        let command = move || handle.close(id, 4321, "from afar");
        std::thread::spawn(command).join().expect("no panic").expect("room for a command");
        assert_eq!(closed.frame().close(), (Some(4321), "from afar".to_owned()));
        closed.send(frame::close(4321, ""));
        closed.ended();
        assert_eq!(server.closed(), (4321, String::new(), CloseCause::Application));

        let mut terminated = server.client();
        let id = server.opened();
        server.handle().terminate(id).expect("room for a command");
        assert!(matches!(terminated.hear(), Heard::End | Heard::Reset), "without a close frame");
        assert_eq!(server.closed(), (1006, String::new(), CloseCause::Application));

        // Who has gone is not closed again, nor is whoever has the slot now.
        let mut next = server.client();
        server.handle().terminate(id).expect("room for a command");
        server.handle().close(id, 1000, "").expect("room for a command");
        assert_eq!(next.ask("still here"), "still here");
    });
}

// capability: 30
#[test]
fn a_handler_terminates() {
    on_each_kind(|setup| {
        let server = setup.start();
        for what in ["terminate", "say something\nterminate", "terminate\nsay something\nclose 1000 x\nterminate"] {
            let mut client = server.client();
            client.send([masked(TEXT, what.as_bytes()), masked(TEXT, b"not heard")].concat());
            client.drain();
            assert_eq!(server.closed(), (1006, String::new(), CloseCause::Application));
        }
        server.wait_until_empty();
        assert!(!server.events_so_far().iter().any(|event| matches!(event, Event::Message(..))));
    });
}

#[test]
fn codes_and_reasons_of_the_application_are_made_fit_to_be_sent() {
    on_each_kind(|setup| {
        let server = setup.start();
        for code in [0, 999, 1005, 1006, 1015, 2000, 5000, 65_535] {
            let mut client = server.client();
            client.say(&format!("close {code} x"));
            assert_eq!(client.frame().close().0, Some(1011), "{code} must not be sent");
        }
        let mut client = server.client();
        client.say(&format!("close 1000 {}", "€".repeat(100)));
        assert_eq!(client.frame().close(), (Some(1000), "€".repeat(41)), "123 bytes, whole characters");
    });
}

#[test]
fn what_was_said_before_the_close_leaves_before_it() {
    on_each_kind(|setup| {
        let server = setup.start();
        for ending in ["close 1000 bye", "\u{0}"] {
            let mut client = server.client();
            client.ask("subscribe news");
            let mut bytes = masked(TEXT, b"echo");
            if ending.starts_with("close") {
                bytes.extend(masked(TEXT, format!("say one\npublish news two\nsay three\n{ending}").as_bytes()));
            } else {
                bytes.extend(masked(TEXT, b"say one\npublish news two\nsay three"));
                bytes.extend(masked(0x83, b"a breach of the protocol"));
            }
            client.send(bytes);
            let mut heard: Vec<String> = (0..4).map(|_| client.text()).collect();
            heard.sort();
            assert_eq!(heard, ["echo", "one", "three", "two"]);
            assert_eq!(client.frame().first, CLOSE);
            client.send(frame::close(1000, ""));
            client.ended();
        }
        // The peer closes: what it has published before comes before the answer.
        let mut client = server.client();
        client.ask("subscribe news");
        client.send([masked(TEXT, b"publish news two"), frame::close(1000, "")].concat());
        assert_eq!(client.text(), "two");
        assert_eq!(client.closed(), Some(1000));
    });
}

#[test]
fn much_that_waits_leaves_before_the_close_frame() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { outbox_bytes_max: 64 << 20, ..limits() });
        for close in ["\nclose 1000 bye", ""] {
            let mut client = server.client();
            client.say(&format!("flood 100 100000{close}"));
            if close.is_empty() {
                client.send(frame::close(1000, ""));
            }
            for _ in 0..100 {
                let frame = client.frame();
                assert_eq!((frame.first, frame.payload.len()), (BINARY, 100_000));
            }
            assert_eq!(client.frame().close().0, Some(1000));
            if !close.is_empty() {
                client.send(frame::close(1000, ""));
            }
            client.ended();
        }
    });
}

#[test]
fn an_end_without_a_close_frame_is_told_as_lost() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = server.client();
        // What it said before counts.
        client.send(masked(TEXT, b"last words"));
        client.finish();
        client.drain();
        assert_eq!(server.closed(), (1006, String::new(), CloseCause::Lost));
        server.client().reset();
        assert_eq!(server.closed(), (1006, String::new(), CloseCause::Lost));
    });
}
