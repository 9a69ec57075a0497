//! Fifty thousand connections that come and go in every way, beside some that stay: no slot, no socket, no
//! descriptor and no byte is left behind.
//!
//! One test in a process, and where the system allows it in a network, of its own: it counts descriptors,
//! resident memory and sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::channel;

use crore_engine::Limits;
use crore_tests::client::REQUEST;
use crore_tests::frame::{self, PING, TEXT, fragment, masked};
use crore_tests::{Actor, Client, Server, Setup, limits, network, on_each_kind, system, wait_until};

/// Connections for each kind of descriptor.
const CONNECTIONS: u32 = 50_000;

/// Threads that connect.
const THREADS: u32 = 8;

/// Slots of each core. So few that a hundredth of the churn would fill them if it left any behind.
const SLOTS: u32 = 256;

/// Ways in which a connection comes and goes.
const WAYS: u32 = 12;

// capability: 21
#[test]
fn nothing_is_left_of_fifty_thousand_connections() {
    if network::run_in_own("nothing_is_left_of_fifty_thousand_connections") {
        return;
    }
    on_each_kind(churn);
}

fn churn(setup: Setup) {
    let sockets = system::sockets();
    let descriptors = system::descriptors();
    {
        // Nobody listens to what the handlers report: it would be kept.
        let nobody = channel().0;
        let limits = Limits { connections_per_core_max: Some(SLOTS), ..limits() };
        let server = setup.start_handler(2, limits, channel().1, move |_| Actor::new(nobody.clone()));
        let mut bystanders: Vec<Client> = (0..10).map(|_| server.client()).collect();
        for bystander in &mut bystanders {
            bystander.ask("subscribe news");
        }
        let (quiet_sockets, quiet_descriptors) = (system::sockets(), system::descriptors());

        // What is kept for reuse has about its size after the first half. A pointer for each connection of the
        // second half would be seen, and so would pages that the allocator does not know of.
        let half = CONNECTIONS / 2;
        come_and_go(&server, 0..half);
        let (allocated, resident) = (system::allocated_bytes(), system::resident_bytes());
        come_and_go(&server, half..CONNECTIONS);
        let allocated = system::allocated_bytes().saturating_sub(allocated);
        let resident = system::resident_bytes().saturating_sub(resident);
        println!("after the second half: {allocated} bytes more, {resident} resident");
        assert!(allocated < 8 * half as usize, "{allocated} bytes more");
        assert!(resident < 8 << 20, "{resident} bytes more are resident");

        // A connection is gone for the application before its socket is closed.
        wait_until("sockets are closed", || !network::is_own() || system::sockets() == quiet_sockets);
        wait_until("descriptors are closed", || system::descriptors() == quiet_descriptors);
        server.handle().publish("news", "you are still here").expect("room for a command");
        for mut bystander in bystanders {
            assert_eq!(bystander.text(), "you are still here");
            bystander.close();
        }
        server.wait_until_empty();
        assert!(server.stats().accepted > u64::from(CONNECTIONS));
    }
    wait_until("sockets of the engine are closed", || !network::is_own() || system::sockets() == sockets);
    wait_until("descriptors of the engine are closed", || system::descriptors() == descriptors);
}

/// Connects and disconnects in all ways in turn, from several threads.
fn come_and_go(server: &Server, numbers: std::ops::Range<u32>) {
    let before = server.stats();
    let address = server.address();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let numbers = numbers.clone();
            std::thread::spawn(move || {
                for number in numbers.filter(|number| number % THREADS == thread) {
                    one(source(number), address, number / THREADS % WAYS);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("each connection goes as it is to");
    }
    server.wait_for("all but the bystanders have gone", |stats| stats.connections == before.connections);
    let stats = server.stats();
    assert_eq!((stats.topics, stats.connections_hot), (before.topics, before.connections_hot));
    assert_eq!(stats.refused_full, 0, "a slot was missing");
}

/// Addresses of the loopback network, so that ports are not used up by those that rest (TIME-WAIT).
fn source(number: u32) -> Ipv4Addr {
    let [.., high, low] = (number / 5_000 + 2).to_be_bytes();
    Ipv4Addr::new(127, 0, high, low)
}

fn one(source: Ipv4Addr, address: SocketAddr, way: u32) {
    let tcp = || Client::tcp_from(source, address);
    let open = || tcp().upgraded();
    match way {
        // Clean ends, from either side.
        0 | 1 => open().close(),
        2 => {
            let mut client = open();
            client.say("close 1000 bye");
            assert_eq!(client.frame().close().0, Some(1000));
            client.send(frame::close(1000, ""));
            client.ended();
        }
        3 => {
            let mut client = open();
            for _ in 0..10 {
                client.ask("it gets hot");
            }
            client.close();
        }
        4 => {
            let mut client = open();
            client.say("subscribe news\nsubscribe some\nsubscribe more");
            client.close();
        }
        // Resets.
        5 => tcp().reset(),
        6 => open().reset(),
        7 => {
            let mut client = open();
            client.send([masked(TEXT, b"flood 10 1000"), masked(PING, b"x"), masked(fragment::TEXT, b"half")].concat());
            client.reset();
        }
        // Half a request; half a connection; a breach; no WebSocket at all.
        8 => {
            let mut client = tcp();
            client.send(&REQUEST[..60]);
            client.finish();
            client.drain_bytes();
        }
        9 => {
            let mut client = open();
            client.finish();
            client.drain();
        }
        10 => {
            let mut client = open();
            client.send(masked(0x83, b""));
            assert_eq!(client.closed(), Some(1002));
        }
        _ => {
            let mut client = tcp();
            client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
    }
}
