//! The opening handshake on real sockets, beyond the shapes of a request that tests/conformance/handshake.rs
//! has: limits, noise, what comes behind the request, what the handler answers (RFC 6455, section 4).

use crore_engine::Limits;
use crore_tests::client::{REQUEST, Response};
use crore_tests::frame::{self, masked};
use crore_tests::{Client, Server, limits, on_each_kind};

/// The usual request with the line that starts with `name` replaced; without it if `line` is empty.
fn with_line(name: &str, line: &str) -> String {
    let mut request = String::new();
    for old in REQUEST.trim_end().lines() {
        let new = if old.starts_with(name) { line } else { old };
        if !new.is_empty() {
            request += new;
            request += "\r\n";
        }
    }
    request + "\r\n"
}

/// Sends a request whole and byte by byte, and returns the two answers, of which nothing follows.
fn answers(server: &Server, request: &[u8]) -> [Response; 2] {
    [false, true].map(|slowly| {
        let mut client = server.tcp();
        if slowly {
            client.send_byte_by_byte(server, request);
        } else {
            client.send(request);
        }
        let response = client.response();
        client.ended();
        response
    })
}

#[test]
fn a_head_that_is_too_long_or_never_ends_gets_431() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, Limits { head_bytes_max: 1000, ..limits() });
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}", "y".repeat(1000));
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "y".repeat(1000));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(100));
        for request in [endless, long, many] {
            for response in answers(&server, request.as_bytes()) {
                assert_eq!(response.status, 431, "{request}");
                assert!(response.body.contains("fewer"), "{response:?}");
            }
        }
        // A client that does not stop to listen gets the answer all the same.
        let mut client = server.tcp();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}", "y".repeat(1_000_000)));
        assert_eq!(client.response().status, 431);
        client.ended();
        // A head of just the limit is let in.
        let padding = "y".repeat(1000 - REQUEST.len() - "X-Long: \r\n".len());
        let mut client = server.tcp();
        client.send(with_line("Host", &format!("Host: localhost\r\nX-Long: {padding}")));
        assert_eq!(client.response().status, 101);
    });
}

#[test]
fn random_bytes_never_open_a_connection_and_never_end_the_engine() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    on_each_kind(|setup| {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = setup.start();
        let mut bystander = server.client();
        for _ in 0..300 {
            let mut bytes = REQUEST.as_bytes().to_vec();
            // A proper request with a few bytes changed comes further than noise does.
            for _ in 0..random.usize(1..8) {
                let index = random.usize(..bytes.len());
                match random.u8(0..3) {
                    0 => bytes[index] = random.u8(..),
                    1 => drop(bytes.remove(index)),
                    _ => bytes.insert(index, random.u8(..)),
                }
            }
            let mut client = server.tcp();
            let cut = random.usize(..bytes.len());
            client.send(&bytes[..cut]);
            // It may have had its answer by now.
            let _ = client.try_send(&bytes[cut..]);
            client.finish();
            client.drain_bytes();
        }
        assert_eq!(bystander.ask("still here"), "still here");
        bystander.close();
        server.wait_until_empty();
    });
}

#[test]
fn frames_behind_the_request_are_read_whatever_their_cut() {
    let mut frames = REQUEST.as_bytes().to_vec();
    for text in ["one", "two", &"three ".repeat(1000)] {
        frames.extend(masked(frame::TEXT, text.as_bytes()));
    }
    on_each_kind(|setup| {
        let server = setup.start();
        let cuts = (REQUEST.len() - 5..REQUEST.len() + 25).chain([1, 20, frames.len() - 1, frames.len()]);
        for cut in cuts {
            let mut client = server.tcp();
            let before = server.stats().bytes_received;
            client.send(&frames[..cut]);
            server.wait_for("the first part", |stats| stats.bytes_received == before + cut as u64);
            client.send(&frames[cut..]);
            assert_eq!(client.response().status, 101);
            assert_eq!((client.text(), client.text()), ("one".to_owned(), "two".to_owned()));
            assert_eq!(client.text(), "three ".repeat(1000), "cut at {cut}");
            client.close();
        }
    });
}

#[test]
fn a_subprotocol_is_chosen_only_if_it_was_offered() {
    on_each_kind(|setup| {
        let server = setup.start();
        let choose = |path: &str, offer: &str| {
            let mut client = server.tcp();
            let request = with_line("GET", &format!("GET {path} HTTP/1.1"));
            client.send(request.replace("Host: localhost\r\n", &format!("Host: localhost\r\n{offer}")));
            let response = client.response();
            assert_eq!(response.status, 101);
            assert_eq!(client.ask("hello"), "hello");
            response.header("Sec-WebSocket-Protocol").map(str::to_owned)
        };
        let chat = Some("chat".to_owned());
        assert_eq!(choose("/chat", "Sec-WebSocket-Protocol: soap, chat\r\n"), chat);
        assert_eq!(choose("/chat", "Sec-WebSocket-Protocol: soap\r\nSec-WebSocket-Protocol: chat\r\n"), chat);
        assert_eq!(choose("/chat", "Sec-WebSocket-Protocol: superchat\r\n"), None);
        assert_eq!(choose("/chat", "Sec-WebSocket-Protocol: CHAT\r\n"), None, "subprotocols have a case");
        assert_eq!(choose("/chat", ""), None);
        assert_eq!(choose("/", "Sec-WebSocket-Protocol: chat\r\n"), None, "the handler did not choose");
    });
}

#[test]
fn a_plain_request_is_answered_by_the_handler() {
    on_each_kind(|setup| {
        let server = setup.start();
        for response in answers(&server, b"GET /page?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n") {
            assert_eq!((response.status, response.body.as_str()), (200, "<p>hello</p>"));
            assert_eq!(response.header("Content-Type"), Some("text/html"));
            assert_eq!(response.header("Connection"), Some("close"));
            assert_eq!(response.header("X-Extra"), Some("1"));
        }
        for response in answers(&server, b"GET /page HTTP/1.0\r\n\r\n") {
            assert_eq!(response.status, 200, "HTTP/1.0 may do without a Host");
        }
        // What comes behind the request is no part of it, and does not keep the answer from its peer.
        let mut client = server.tcp();
        client.send(format!("GET /page HTTP/1.1\r\nHost: a\r\n\r\n{}", "more".repeat(200_000)));
        assert_eq!(client.response().status, 200);
        client.ended();
        drop(client);
        server.wait_until_empty();
        assert!(server.events_so_far().is_empty(), "nothing was opened, so nothing is closed");
    });
}

#[test]
fn the_answer_to_head_has_no_body() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = server.tcp();
        client.send("HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("Content-Length: 12\r\n"), "as for GET: {head}");
        client.ended();
    });
}

#[test]
fn a_message_before_the_answer_is_heard_after_it() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = Client::tcp(server.address());
        client.send([REQUEST.as_bytes(), &frame::close(1000, "at once")].concat());
        assert_eq!(client.response().status, 101);
        assert_eq!(client.closed(), Some(1000));
        assert_eq!(server.closed().1, "at once");
    });
}
