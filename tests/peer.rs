//! What a handler is told of its peer: the address, when it decides about a request.

use std::net::SocketAddr;
use std::sync::mpsc::channel;

use crore_engine::{Answer, Context, Engine, Handler, Message, Request, Response};
use crore_tests::client::REQUEST;
use crore_tests::frame::{TEXT, masked};
use crore_tests::{Client, Server, Setup, limits, on_each_kind};

/// Says where the peer comes from: in an answer, when it has opened, and when it is asked.
struct Mirror;

fn text(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "nowhere".to_owned(), |address| address.to_string())
}

impl Handler for Mirror {
    type Connection = ();

    fn on_request(&mut self, context: &mut Context<'_>, (): &mut (), request: &Request<'_>) -> Answer {
        if request.path == "/whence" {
            return Answer::Respond(Response::text(200, text(context.peer_address())));
        }
        context.send(&text(context.peer_address()));
        Answer::upgrade()
    }

    fn on_open(&mut self, context: &mut Context<'_>, (): &mut ()) {
        context.send(&text(context.peer_address()));
    }

    fn on_message(&mut self, context: &mut Context<'_>, (): &mut (), _: Message<'_>) {
        context.send(&text(context.peer_address()));
    }
}

fn start(setup: Setup, address: &str, cores: usize, wanted: bool) -> Server {
    let engine = Engine::bind(address).expect("an address").cores(cores).limits(limits()).peer_addresses(wanted);
    setup.start_engine(engine, channel().1, |_| Mirror)
}

// capability: 10
#[test]
fn a_request_and_an_opening_come_with_the_address_of_the_peer() {
    on_each_kind(|setup| {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = start(setup, address, 2, true);
            for _ in 0..20 {
                let mut page = server.tcp();
                let own = page.local_address().to_string();
                page.send("GET /whence HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(page.response().body, own);
                let mut client = server.tcp();
                let own = client.local_address().to_string();
                // What it says before it has been answered is handled when it is open, and then nobody keeps it.
                client.send([REQUEST.as_bytes(), &masked(TEXT, b"and now?")].concat());
                assert_eq!(client.response().status, 101);
                assert_eq!([client.text(), client.text(), client.text()], [own.clone(), own, "nowhere".to_owned()]);
            }
        }
    });
}

#[test]
fn an_address_of_ipv4_on_a_listener_for_both_families_is_mapped() {
    on_each_kind(|setup| {
        let server = start(setup, "[::]:0", 1, true);
        let mut page = Client::tcp(SocketAddr::from(([127, 0, 0, 1], server.address().port())));
        let own = page.local_address();
        page.send("GET /whence HTTP/1.1\r\nHost: a\r\n\r\n");
        let told: SocketAddr = page.response().body.parse().expect("an address");
        assert_eq!((told.ip().to_canonical(), told.port()), (own.ip(), own.port()));
        assert!(told.is_ipv6());
    });
}

#[test]
fn nobody_is_asked_where_nobody_wants_to_know() {
    on_each_kind(|setup| {
        let server = start(setup, "127.0.0.1:0", 1, false);
        let mut page = server.tcp();
        page.send("GET /whence HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(page.response().body, "nowhere");
    });
}

#[test]
fn who_goes_before_it_has_said_anything_leaves_nothing() {
    on_each_kind(|setup| {
        let server = start(setup, "127.0.0.1:0", 1, true);
        for round in 0..5 {
            let crowd: Vec<Client> = (0..100).map(|_| server.tcp()).collect();
            for (index, mut client) in crowd.into_iter().enumerate() {
                if index % 3 == 0 {
                    client.send("GET / HT");
                } else if index % 3 == 1 {
                    client.reset();
                }
            }
            server.wait_for("all have come", |stats| stats.accepted == 101 * round + 100);
            server.wait_until_empty();
            // A slot that was another's has its own address.
            let mut page = server.tcp();
            let own = page.local_address().to_string();
            page.send("GET /whence HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(page.response().body, own);
        }
    });
}
