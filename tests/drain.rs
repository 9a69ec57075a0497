//! The end of an engine: 1001 to everyone, patience for their answers, and nothing left.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crore_engine::{CloseCause, Context, Drain, Handler, Limits, Message};
use crore_tests::frame::{self, BINARY, TEXT, fragment, header, masked};
use crore_tests::{Client, DEADLINE, Event, Server, limits, on_each_kind, system, wait_until};

const PATIENT: Duration = Duration::from_secs(3600);

#[test]
fn everyone_is_told_and_answers() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
        for client in clients.iter_mut().step_by(3) {
            client.ask("subscribe news");
        }
        for client in clients.iter_mut().step_by(7) {
            // These are hot.
            for _ in 0..20 {
                client.ask("again");
            }
        }
        clients[0].send(header(BINARY, 1000));
        clients[1].send(masked(fragment::TEXT, b"half"));
        // What is said before the drain is answered before it.
        clients[2].say("echo");
        assert_eq!(clients[2].text(), "echo");
        server.handle().drain(PATIENT);
        for mut client in clients.drain(2..) {
            let (code, reason) = client.frame().close();
            assert_eq!(code, Some(1001));
            assert!(!reason.is_empty());
            client.send(frame::close(1001, ""));
            client.ended();
        }
        // In the middle of a message there is a way out, too.
        clients[0].send([0; 1000]);
        for mut client in clients {
            assert_eq!(client.frame().close().0, Some(1001));
            client.send(frame::close(1001, ""));
            client.ended();
        }
        for _ in 0..50 {
            assert_eq!(server.closed(), (1001, String::new(), CloseCause::Drain));
        }
        server.join();
    });
}

#[test]
fn who_does_not_answer_is_cut_when_patience_is_over() {
    on_each_kind(|setup| {
        for patience in [Duration::ZERO, Duration::from_millis(300)] {
            let server = setup.start_with(2, limits());
            let (mut answers, mut silent, mut talks) = (server.client(), server.client(), server.client());
            server.handle().drain(patience);
            // With no patience at all, it may be cut before it could have answered.
            if !patience.is_zero() {
                assert_eq!(answers.frame().close().0, Some(1001));
                answers.send(frame::close(1001, ""));
                answers.ended();
                assert_eq!(silent.frame().close().0, Some(1001));
            }
            wait_until("the end of the one that talks", || talks.try_send(masked(TEXT, b"more")).is_err());
            silent.drain();
            let mut causes: Vec<CloseCause> = (0..3).map(|_| server.closed().2).collect();
            causes.dedup();
            assert_eq!(causes, [CloseCause::Drain]);
            server.join();
        }
    });
}

#[test]
fn nobody_is_accepted_any_more() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let client = server.client();
        let mut in_handshake = server.tcp();
        in_handshake.send("GET / HTTP/1.1\r\n");
        server.wait_for("it is there", |stats| stats.connections == 2);
        server.handle().drain(PATIENT);
        assert!(refuses(server.address()));
        // The handshake is over while the drain still waits for an answer.
        in_handshake.drain();
        assert!(refuses(server.address()));
        client.goes_away();
        server.join();
    });
}

#[test]
fn nobody_listens_when_either_of_two_drains_has_returned() {
    on_each_kind(|setup| {
        for _ in 0..10 {
            let server = setup.start_with(8, limits());
            let (handle, address, together) = (server.handle(), server.address(), Barrier::new(2));
            thread::scope(|scope| {
                let drain = || {
                    together.wait();
                    handle.drain(Duration::ZERO);
                    assert!(refuses(address));
                };
                scope.spawn(drain);
                scope.spawn(drain);
            });
            server.join();
        }
    });
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DEADLINE).is_err()
}

/// Is kept by a message until somebody lets it go.
struct Kept(Sender<()>, Arc<Mutex<Receiver<()>>>);

impl Handler for Kept {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), message: Message<'_>) {
        match message.as_text() {
            Some("keep") => {
                let _ = self.0.send(());
                let _ = self.1.lock().expect("nobody panics with it").recv_timeout(DEADLINE);
            }
            _ => context.send(&context.core().to_string()),
        }
    }
}

// capability: 29
#[test]
fn who_comes_back_is_not_accepted_by_a_core_that_is_late() {
    on_each_kind(|setup| {
        let (kept, is_kept) = channel();
        let (let_go, wait) = channel();
        let wait = Arc::new(Mutex::new(wait));
        let server = setup.start_handler(2, limits(), channel().1, move |_| Kept(kept.clone(), Arc::clone(&wait)));
        let mut clients = Client::on_each_core(server.address(), 2);
        let (mut late, mut quick) = (clients.remove(1), clients.remove(0));
        late.say("keep");
        is_kept.recv().expect("it is kept");
        server.handle().drain(PATIENT);
        assert_eq!(quick.frame().close().0, Some(1001));
        assert!(refuses(server.address()));
        quick.send(frame::close(1001, ""));
        quick.ended();
        let_go.send(()).expect("it waits");
        late.goes_away();
        assert_eq!(server.stats().accepts_failed, 0, "a listener that has been ended is no fault of its core");
        server.join();
    });
}

#[test]
fn what_was_said_before_arrives() {
    on_each_kind(|setup| {
        let limits = Limits { outbox_bytes_max: 64 << 20, ..limits() };
        let server = setup.start_with(1, limits);
        let mut slow = Client::tcp_with_window(server.address(), 4096).upgraded();
        slow.say("flood 100 100000");
        server.wait_for("all is said", |stats| stats.messages_sent == 100);
        server.handle().drain(PATIENT);
        for _ in 0..100 {
            assert_eq!(slow.frame().payload.len(), 100_000);
        }
        slow.goes_away();
        server.join();
    });
}

#[test]
fn connections_that_are_ending_already_end_as_they_were_to() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut closed = server.client();
        closed.say("close 4000 before");
        assert_eq!(closed.frame().close().0, Some(4000));
        let mut broken = server.client();
        broken.send(masked(0x83, b""));
        assert_eq!(broken.closed(), Some(1002));
        let mut page = server.tcp();
        page.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(page.response().status, 200);
        server.handle().drain(PATIENT);
        closed.send(frame::close(4000, ""));
        closed.ended();
        page.ended();
        drop((broken, page));
        let mut causes = [server.closed().2, server.closed().2];
        causes.sort_by_key(|cause| *cause as u8);
        assert_eq!(causes, [CloseCause::Application, CloseCause::Protocol]);
        server.join();
    });
}

#[test]
fn a_second_drain_changes_nothing_and_commands_behind_the_end_are_refused() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let mut client = server.client();
        let id = server.opened();
        assert_eq!(server.handle().drain_terms(), None);
        server.handle().drain(PATIENT);
        server.handle().drain(Duration::ZERO);
        let terms = Drain { patience: PATIENT, ..Drain::default() };
        assert_eq!(server.handle().drain_terms(), Some(&terms));
        assert_eq!(client.frame().close().0, Some(1001));
        // It is closing: what is sent to it now goes nowhere.
        server.handle().send(id, "late").expect("room for a command");
        server.handle().broadcast("late").ok();
        client.send(frame::close(1001, ""));
        client.ended();
        let handle = server.handle().clone();
        server.join();
        assert!(handle.send(id, "later").is_err());
        assert!(handle.broadcast("later").is_err());
        handle.drain(PATIENT);
        assert_eq!(handle.connections(), 0);
    });
}

#[test]
fn a_drain_under_load_ends() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let mut client = server.client();
                client.ask("subscribe news");
                std::thread::spawn(move || {
                    let mut n = 0;
                    client.say(&format!("publish news {number} {n}"));
                    loop {
                        // It publishes and reads all that comes, until it is told to go.
                        let frame = client.frame();
                        if frame.first == frame::CLOSE {
                            let _ = client.try_send(frame::close(1001, ""));
                            client.drain();
                            return frame.close().0;
                        }
                        if frame.payload == format!("{number} {n}").into_bytes() {
                            n += 1;
                            client.say(&format!("publish news {number} {n}"));
                        }
                    }
                })
            })
            .collect();
        server.wait_for("load", |stats| stats.messages_sent > 2_000);
        server.handle().drain(PATIENT);
        for client in clients {
            assert_eq!(client.join().expect("no panic"), Some(1001));
        }
        server.join();
    });
}

#[test]
fn an_engine_can_be_started_and_ended_again_and_again() {
    on_each_kind(|setup| {
        let round = || {
            let server: Server = setup.start_with(2, limits());
            let mut client = server.client();
            assert_eq!(client.ask("hello"), "hello");
            server.handle().drain(PATIENT);
            client.goes_away();
            assert!(server.events_so_far().iter().any(|event| matches!(event, Event::Opened(_))));
            server.join();
        };
        round();
        for _ in 0..20 {
            round();
        }
        // Other tests of this process run at the same time, with engines of their own; 20 engines that left
        // their rings, doorbells and listeners behind would be more than all of them.
        wait_until("descriptors are given back", || system::descriptors() < 250);
    });
}

// capability: 29
#[test]
fn closes_can_be_spread_over_a_time_with_a_code_and_a_reason_of_its_own() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
        let spread = Duration::from_secs(1);
        let terms = Drain { code: 1012, reason: "restart".to_owned(), spread, patience: PATIENT };
        let begun = Instant::now();
        server.handle().drain_with(terms);
        let mut ends = Vec::new();
        for mut client in clients {
            assert_eq!(client.frame().close(), (Some(1012), "restart".to_owned()));
            ends.push(begun.elapsed());
            client.send(frame::close(1012, ""));
            client.ended();
        }
        // How late somebody is told depends on the machine; that nobody is told too early does not.
        assert!(ends.iter().any(|end| *end >= spread), "the last one is told at the end of the time: {ends:?}");
        for _ in 0..40 {
            assert_eq!(server.closed().2, CloseCause::Drain);
        }
        server.join();
    });
}

// capability: 29
#[test]
fn who_has_not_been_told_to_go_is_served_and_nobody_comes_in() {
    on_each_kind(|setup| {
        let server = setup.start_with(2, limits());
        let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
        let mut in_handshake = server.tcp();
        in_handshake.send("GET / HTTP/1.1\r\n");
        server.wait_for("it is there", |stats| stats.connections == 11);
        // By then each of them has gone.
        server.handle().drain_with(Drain { spread: PATIENT, patience: PATIENT, ..Drain::default() });
        in_handshake.drain();
        assert!(refuses(server.address()));
        for client in &mut clients {
            assert_eq!(client.ask("hello"), "hello");
        }
        clients.into_iter().for_each(Client::close);
        server.join();
    });
}
