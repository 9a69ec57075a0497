//! What a handler is told of its peer: the address, when it decides about a request.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crore_engine::{Answer, Context, Engine, Handler, Limits, Message, ProxyProtocol, Request, Response};
use crore_tests::client::REQUEST;
use crore_tests::frame::{TEXT, masked};
use crore_tests::{Client, DEADLINE, Heard, Server, Setup, limits, on_each_kind};
use rustix::time::{ClockId, clock_gettime};

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

/// A header of a proxy for this client (`doc/proxy-protocol.txt` of HAProxy, section 2.2).
fn proxy_header(client: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match client {
        SocketAddr::V4(client) => {
            header.extend_from_slice(&[0x11, 0, 12]);
            header.extend_from_slice(&client.ip().octets());
            header.extend_from_slice(&[10, 0, 0, 1]);
        }
        SocketAddr::V6(client) => {
            header.extend_from_slice(&[0x21, 0, 36]);
            header.extend_from_slice(&client.ip().octets());
            header.extend_from_slice(&[0; 16]);
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&80u16.to_be_bytes());
    header
}

fn start_behind_proxy(setup: Setup, trusted: bool, limits: Limits) -> Server {
    let proxy = ProxyProtocol::required(move |address| trusted && address.is_loopback());
    let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits).proxy_protocol(proxy);
    setup.start_engine(engine, channel().1, |_| Mirror)
}

/// Says by which proxy the connection has come, and whether that names the client.
struct ProxyMirror;

impl Handler for ProxyMirror {
    type Connection = ();

    fn on_request(&mut self, context: &mut Context<'_>, (): &mut (), _: &Request<'_>) -> Answer {
        let proxy = context.proxy();
        let said = proxy.map(|proxy| format!("{} {}", proxy.address, proxy.names_client));
        Answer::Respond(Response::text(200, said.unwrap_or_else(|| "nobody".to_owned())))
    }
}

// capability: 9 10
#[test]
fn a_proxy_is_known_beside_whom_it_names() {
    on_each_kind(|setup| {
        let proxied = ProxyProtocol::required(|address| address.is_loopback());
        let engine = || Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits());
        let server = setup.start_engine(engine().proxy_protocol(proxied), channel().1, |_| ProxyMirror);
        for (header, names_client) in [
            (&proxy_header("192.0.2.7:4711".parse().expect("an address"))[..], true),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0", false),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", false),
        ] {
            let mut client = server.tcp();
            let own = client.local_address();
            client.send(header);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().body, format!("{own} {names_client}"));
        }
        let server = setup.start_engine(engine().peer_addresses(true), channel().1, |_| ProxyMirror);
        let mut client = server.tcp();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().body, "nobody");
    });
}

// capability: 10
#[test]
fn behind_a_proxy_the_peer_is_who_the_proxy_names() {
    on_each_kind(|setup| {
        let server = start_behind_proxy(setup, true, limits());
        for address in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
            let bytes = [&proxy_header(address.parse().expect("an address")), REQUEST.as_bytes()].concat();
            for slowly in [false, true] {
                let mut client = server.tcp();
                if slowly {
                    client.send_byte_by_byte(&server, &bytes);
                } else {
                    client.send(&bytes);
                }
                assert_eq!(client.response().status, 101);
                assert_eq!([client.text(), client.text()], [address, address]);
                assert_eq!(client.ask("and now?"), "nowhere");
            }
        }
        // A proxy that speaks for itself, to see whether the server lives, is where it is.
        let mut local = server.tcp();
        let own = local.local_address().to_string();
        local.send(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0");
        local.send("GET /whence HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(local.response().body, own);
        assert_eq!(server.stats().refused_proxy, 0);
    });
}

#[test]
fn who_has_no_header_or_may_have_none_is_cut_and_counted() {
    on_each_kind(|setup| {
        let header = proxy_header(SocketAddr::from(([192, 0, 2, 7], 4711)));
        for (trusted, said) in [
            (true, REQUEST.as_bytes()),
            (true, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"),
            (true, b"\r\n\r\n\0\r\nQUIT\n\x21\x12"),
            (false, &header),
            (false, b"G"),
        ] {
            let server = start_behind_proxy(setup, trusted, limits());
            for _ in 0..3 {
                let mut client = server.tcp();
                client.send(said);
                assert!(matches!(client.hear(), Heard::End | Heard::Reset), "not a word");
            }
            server.wait_until_empty();
            assert_eq!((server.stats().refused_proxy, server.stats().upgrades), (3, 0));
        }
        // Half a header is waited for as long as a request is.
        let limits = Limits { handshake_timeout: Duration::from_millis(200), ..limits() };
        let server = start_behind_proxy(setup, true, limits);
        let mut client = server.tcp();
        client.send(&header[..20]);
        assert!(matches!(client.hear(), Heard::End | Heard::Reset));
        server.wait_for("it is counted", |stats| stats.closed_timeout == 1);
    });
}

/// Counts what its core has worked when it has been asked for something so many times.
struct Meter {
    requests: u32,
    begun: Duration,
    done: Sender<Duration>,
}

/// Requests of which the first ones are not counted.
const REQUESTS: u32 = 4_000;
const WARM_UP: u32 = 400;

impl Handler for Meter {
    type Connection = ();

    fn on_request(&mut self, context: &mut Context<'_>, (): &mut (), _: &Request<'_>) -> Answer {
        std::hint::black_box(context.peer_address());
        self.requests += 1;
        let used = clock_gettime(ClockId::ThreadCPUTime);
        let used = Duration::try_from(used).expect("it runs forward");
        if self.requests == WARM_UP {
            self.begun = used;
        } else if self.requests == REQUESTS {
            let _ = self.done.send(used - self.begun);
        }
        Answer::Respond(Response::text(200, ""))
    }
}

/// `cargo test --release -p crore-tests --test peer -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for an idle machine"]
fn what_an_address_costs() {
    on_each_kind(|setup| {
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 0..10 {
            let wanted = round % 2 == 1;
            let (done, used) = channel();
            let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).limits(limits());
            let meter = move |_| Meter { requests: 0, begun: Duration::ZERO, done: done.clone() };
            let server = setup.start_engine(engine.peer_addresses(wanted), channel().1, meter);
            for _ in 0..REQUESTS {
                let mut page = server.tcp();
                page.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(page.response().status, 200);
            }
            let used = used.recv_timeout(DEADLINE).expect("the meter has seen them all");
            rounds[usize::from(wanted)].push(used / (REQUESTS - WARM_UP));
        }
        for (rounds, wanted) in rounds.iter_mut().zip(["without", "with"]) {
            rounds.sort_unstable();
            println!("{wanted} addresses, CPU of the core per connection: {rounds:?}, median {:?}", rounds[2]);
        }
    });
}
