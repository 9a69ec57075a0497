//! The request line (RFC 9112, section 3), and what is none.

use crore_tests::client::REQUEST;
use crore_tests::on_each_kind;

use super::{Case, NOT_HTTP, Opens, Refuses, check, with};
use crate::{count, still_speaks};

#[test]
fn request_lines() {
    let not_get = Refuses(400, "GET");
    let target = Refuses(400, "target");
    let mut cases: Vec<Case> = [
        ("GET / HTTP/1.1", Opens),
        ("GET /ws?token=1 HTTP/1.1", Opens),
        ("GET /? HTTP/1.1", Opens),
        ("GET //two//slashes HTTP/1.1", Opens),
        ("GET /%00%ff%2e%2e/ HTTP/1.1", Opens),
        ("GET /;a=b,c:d@e!$&'()*+ HTTP/1.1", Opens),
        // Absolute targets (RFC 9112, section 3.2.2); every server must take them.
        ("GET http://localhost/ HTTP/1.1", Opens),
        ("GET http://localhost HTTP/1.1", Opens),
        ("GET http://elsewhere.example:81/ws?x HTTP/1.1", Opens),
        ("GET https://localhost/ HTTP/1.1", Opens),
        ("GET ws://localhost/ HTTP/1.1", Opens),
        ("GET wss://localhost/ HTTP/1.1", Opens),
        ("GET WS://LOCALHOST/ HTTP/1.1", Opens),
        ("GET http://[::1]:80/ HTTP/1.1", Opens),
        ("GET http://localhost?query HTTP/1.1", Opens),
        ("GET ftp://localhost/ HTTP/1.1", target),
        ("GET http:///path HTTP/1.1", target),
        ("GET http:/path HTTP/1.1", target),
        ("GET ://localhost/ HTTP/1.1", target),
        ("GET nowhere HTTP/1.1", target),
        ("GET localhost:80 HTTP/1.1", target),
        ("GET ?query HTTP/1.1", target),
        ("GET /#part HTTP/1.1", target),
        ("GET http://localhost/#part HTTP/1.1", target),
        ("GET * HTTP/1.1", target),
        ("GET *a HTTP/1.1", target),
        ("GET /missing HTTP/1.1", Refuses(404, "nothing is served here")),
        ("POST / HTTP/1.1", not_get),
        ("PUT / HTTP/1.1", not_get),
        ("DELETE / HTTP/1.1", not_get),
        ("PATCH / HTTP/1.1", not_get),
        ("OPTIONS / HTTP/1.1", not_get),
        ("OPTIONS * HTTP/1.1", not_get),
        ("TRACE / HTTP/1.1", not_get),
        ("get / HTTP/1.1", not_get),
        ("Get / HTTP/1.1", not_get),
        ("GETS / HTTP/1.1", not_get),
        ("CONNECT localhost:80 HTTP/1.1", target),
        ("GET / HTTP/1.0", Refuses(400, "HTTP/1.1")),
        ("GET / HTTP/0.9", NOT_HTTP),
        ("GET / HTTP/1.2", NOT_HTTP),
        ("GET / HTTP/2.0", NOT_HTTP),
        ("GET / HTTP/3.0", NOT_HTTP),
        ("GET / HTTP/11", NOT_HTTP),
        ("GET / HTTP/1.10", NOT_HTTP),
        ("GET / HTTP/1", NOT_HTTP),
        ("GET / HTTP/01.1", NOT_HTTP),
        ("GET / http/1.1", NOT_HTTP),
        ("GET / HTTPS/1.1", NOT_HTTP),
        ("GET / WS/1.1", NOT_HTTP),
        ("GET / HTTP/1,1", NOT_HTTP),
        ("GET / ", NOT_HTTP),
        ("GET /", NOT_HTTP),
        ("GET", NOT_HTTP),
        ("/ HTTP/1.1", NOT_HTTP),
        ("GET HTTP/1.1", NOT_HTTP),
        ("GET / HTTP/1.1 ", NOT_HTTP),
        ("GET / HTTP/1.1\t", NOT_HTTP),
        ("GET / HTTP/1.1 more", NOT_HTTP),
        ("GET  / HTTP/1.1", NOT_HTTP),
        ("GET /  HTTP/1.1", NOT_HTTP),
        ("GET\t/ HTTP/1.1", NOT_HTTP),
        ("GET /\tHTTP/1.1", NOT_HTTP),
        ("GET / a HTTP/1.1", NOT_HTTP),
        (" GET / HTTP/1.1", NOT_HTTP),
        ("\tGET / HTTP/1.1", NOT_HTTP),
        ("G\0T / HTTP/1.1", NOT_HTTP),
        ("GET /\0 HTTP/1.1", NOT_HTTP),
        ("GET /\x01 HTTP/1.1", NOT_HTTP),
        ("GET /\x7f HTTP/1.1", NOT_HTTP),
        ("GET /\r HTTP/1.1", NOT_HTTP),
        ("GET(/) / HTTP/1.1", NOT_HTTP),
        ("\u{feff}GET / HTTP/1.1", NOT_HTTP),
    ]
    .into_iter()
    .map(|(line, answer)| Case::new(format!("{line:?}"), with("GET", format!("{line}\r\n")), answer))
    .collect();
    for (name, line, answer) in [
        ("an empty line before", "\r\nGET / HTTP/1.1\r\n", Opens),
        ("two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n", Opens),
        ("a bare LF before", "\nGET / HTTP/1.1\r\n", NOT_HTTP),
        ("a bare CR before", "\rGET / HTTP/1.1\r\n", NOT_HTTP),
        ("a bare LF behind", "GET / HTTP/1.1\n", NOT_HTTP),
        ("a bare CR behind", "GET / HTTP/1.1\r", NOT_HTTP),
        ("a folded line behind", "GET / HTTP/1.1\r\n folded\r\n", NOT_HTTP),
        ("a second request line behind", "GET / HTTP/1.1\r\nGET / HTTP/1.1\r\n", NOT_HTTP),
    ] {
        cases.push(Case::new(name, with("GET", line), answer));
    }
    check("request lines", &cases);
}

#[test]
fn what_is_no_http_at_all() {
    let cases: [(&str, &[u8]); 14] = [
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xf1\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        ("an SSH greeting", b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a proxy header", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n\r\n"),
        ("a proxy header in binary", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02"),
        ("frames", b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\r\n\r\n"),
        ("zero bytes", b"\0\0\0\0\r\n\r\n"),
        ("a byte order mark of UTF-16", b"\xff\xfe\xfd\r\n\r\n"),
        ("a greeting", b"hello\r\n\r\n"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
        ("SMTP", b"EHLO localhost\r\n\r\n"),
        ("SOCKS", b"\x05\x01\x00"),
        ("RDP", b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0"),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
    ];
    count("other protocols", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        let mut bystander = server.client();
        for (name, bytes) in cases {
            let mut client = server.tcp();
            client.send(bytes);
            let response = client.response();
            assert_eq!(response.status, 400, "{name}");
            assert!(response.body.len() > 10, "{name}: a reason: {response:?}");
            client.ended();
            still_speaks(&mut bystander, name);
        }
    });
}

#[test]
fn a_head_in_two_pieces_cut_anywhere() {
    count("cuts of a request", REQUEST.len() - 1);
    on_each_kind(|setup| {
        let server = setup.start();
        for cut in 1..REQUEST.len() {
            let mut client = server.tcp();
            let received = server.stats().bytes_received + cut as u64;
            client.send(&REQUEST.as_bytes()[..cut]);
            server.wait_for("the first piece", |stats| stats.bytes_received >= received);
            client.send(&REQUEST.as_bytes()[cut..]);
            assert_eq!(client.response().status, 101, "cut at {cut}");
        }
    });
}
