//! Shapes of request smuggling: a body or a second request that a proxy in front of the server would see, or not
//! see, where the server does not, or does (RFC 9112, sections 6.3 and 11.2).

use crore_tests::client::REQUEST;
use crore_tests::frame::{self, masked};
use crore_tests::on_each_kind;

use super::{Case, NOT_HTTP, Opens, Refuses, check, with_also};
use crate::count;

#[test]
fn shapes_of_request_smuggling() {
    let body = Refuses(400, "body");
    let mut cases = Vec::new();
    for (name, lines, answer) in [
        ("no body", "Content-Length: 0\r\n", Opens),
        ("a length", "Content-Length: 5\r\n", body),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n", body),
        ("two lengths, the other way", "Content-Length: 5\r\nContent-Length: 0\r\n", body),
        ("two lengths in one line", "Content-Length: 0, 5\r\n", body),
        ("the same length twice in one line", "Content-Length: 0, 0\r\n", body),
        ("a length with a sign", "Content-Length: +0\r\n", body),
        ("a negative length", "Content-Length: -1\r\n", body),
        ("minus zero", "Content-Length: -0\r\n", body),
        ("a length with leading zeros", "Content-Length: 00\r\n", body),
        ("a hexadecimal length", "Content-Length: 0x0\r\n", body),
        ("no number", "Content-Length: zero\r\n", body),
        ("an empty length", "Content-Length:\r\n", body),
        ("a length of 2^64", "Content-Length: 18446744073709551616\r\n", body),
        ("a length in capitals", "CONTENT-LENGTH: 5\r\n", body),
        ("chunked", "Transfer-Encoding: chunked\r\n", body),
        ("chunked in capitals", "TRANSFER-ENCODING: CHUNKED\r\n", body),
        ("identity", "Transfer-Encoding: identity\r\n", body),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n", body),
        ("an empty coding", "Transfer-Encoding:\r\n", body),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", body),
        ("two codings in one line", "Transfer-Encoding: gzip, chunked\r\n", body),
        ("a length and chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", body),
        ("chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", body),
        ("a space before the colon of the coding", "Transfer-Encoding : chunked\r\n", NOT_HTTP),
        ("a tab before the colon of the coding", "Transfer-Encoding\t: chunked\r\n", NOT_HTTP),
        ("a vertical tab before the coding", "Transfer-Encoding:\x0bchunked\r\n", NOT_HTTP),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n", NOT_HTTP),
        ("a space before the length", " Content-Length: 5\r\n", NOT_HTTP),
        ("a coding behind a bare LF", "X: a\nTransfer-Encoding: chunked\r\n", NOT_HTTP),
        ("a coding behind a bare CR", "X: a\rTransfer-Encoding: chunked\r\n", NOT_HTTP),
        ("a coding behind CR CR LF", "X: a\r\r\nTransfer-Encoding: chunked\r\n", NOT_HTTP),
        ("a coding behind a zero byte", "X: a\0\r\nTransfer-Encoding: chunked\r\n", NOT_HTTP),
        ("a length behind a bare LF", "X: a\nContent-Length: 5\r\n", NOT_HTTP),
        ("a length with a zero byte", "Content-Length: 5\0\r\n", NOT_HTTP),
        ("an empty line of a bare LF", "X: a\r\n\n", NOT_HTTP),
        ("an empty line of a bare CR", "X: a\r\n\r", NOT_HTTP),
    ] {
        for (place, request) in ["first", "last"].iter().zip(with_also(lines)) {
            // At the end of the head a bare CR and the CR LF behind it are two, and a line that is one CR.
            cases.push(Case::new(format!("{name}, {place}"), request, answer));
        }
    }
    check("request smuggling", &cases);
}

#[test]
fn a_body_behind_an_upgrade_is_not_taken_for_frames() {
    let cases: [(&str, &str, Vec<u8>); 3] = [
        ("a chunked body", "Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        ("a body of frames", "Content-Length: 11\r\n", masked(frame::TEXT, b"hello")),
        ("a second request", "Content-Length: 160\r\n", REQUEST.as_bytes().to_vec()),
    ];
    count("bodies", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, lines, behind) in &cases {
            for request in with_also(lines) {
                let mut client = server.tcp();
                client.send([&request[..], behind].concat());
                assert_eq!(client.response().status, 400, "{name}");
                // One answer, and no other.
                client.ended();
            }
        }
        assert_eq!(server.stats().upgrades, 0);
    });
}

#[test]
fn one_request_is_answered_on_a_connection() {
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let lengths = "GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let old = REQUEST.replace(": 13\r\n", ": 8\r\n");
    let missing = REQUEST.replace("GET / ", "GET /missing ");
    let cases = [
        ("a page", page, 200),
        ("a page with two lengths", lengths, 200),
        ("an upgrade to another version", &old, 426),
        ("an upgrade where nothing is served", &missing, 404),
        ("a request that is none", "GET / HTTP/1.1\r\n\r\n", 400),
    ];
    count("requests with others behind them", cases.len() * 2);
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, request, status) in cases {
            for second in [page, REQUEST] {
                let mut client = server.tcp();
                client.send([request, second, second].concat());
                assert_eq!(client.response().status, status, "{name}");
                client.ended();
            }
        }
        assert_eq!(server.stats().upgrades, 0, "a proxy that takes a refusal for an upgrade tunnels nothing");
    });
}

#[test]
fn a_second_request_behind_an_upgrade_is_a_broken_frame() {
    on_each_kind(|setup| {
        let server = setup.start();
        let mut client = server.tcp();
        client.send([REQUEST, REQUEST].concat());
        assert_eq!(client.response().status, 101);
        assert_eq!(client.closed(), Some(1002), "a G has a reserved bit and a reserved opcode");
    });
}
