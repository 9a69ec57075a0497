//! Close codes (RFC 6455, section 7.4): every one that the RFC speaks of, and what stands around them.

use crore_engine::CloseCause;
use crore_tests::frame::{self, CLOSE, masked};
use crore_tests::{Client, Server, on_each_kind};

use crate::count;

/// The answer to a close frame with this code: itself, or a protocol error. Written from section 7.4.2 and the
/// registry of IANA, range by range.
fn answer(code: u16) -> u16 {
    match code {
        // Not used; 1004 is reserved, 1005, 1006 and 1015 are never sent.
        0..=999 | 1004..=1006 | 1015 => 1002,
        1000..=1003 | 1007..=1014 => code,
        // For later versions of the protocol and for extensions.
        1016..=2999 => 1002,
        // For libraries and frameworks, and for private use.
        3000..=4999 => code,
        5000.. => 1002,
    }
}

fn closes(server: &Server, body: &[u8], expected: Option<u16>, name: &str) -> (u16, String, CloseCause) {
    let mut client = Client::connect(server.address());
    client.send(masked(CLOSE, body));
    let (code, reason) = client.frame().close();
    assert_eq!(code, expected, "{name}: {reason}");
    client.ended();
    server.closed()
}

#[test]
fn every_code_from_0_to_4999_and_a_few_beyond() {
    let codes: Vec<u16> = (0..5000).chain([5000, 5001, 9999, 10_000, 32_767, 32_768, 65_534, 65_535]).collect();
    count("close codes", codes.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for &code in &codes {
            let name = format!("close code {code}");
            let closed = closes(&server, &code.to_be_bytes(), Some(answer(code)), &name);
            let cause = if answer(code) == code { CloseCause::Peer } else { CloseCause::Protocol };
            assert_eq!((closed.0, closed.2), (answer(code), cause), "{name}");
        }
        server.wait_until_empty();
    });
}

#[test]
fn every_length_of_a_body() {
    count("close frames by length", 126);
    on_each_kind(|setup| {
        let server = setup.start();
        for length in 0..=125 {
            let name = format!("a close frame of {length} bytes");
            let mut body = [&1000u16.to_be_bytes()[..], &[b'r'; 123]].concat();
            body.truncate(length);
            let (expected, told) = match length {
                0 => (None, 1005),
                // Half a status code.
                1 => (Some(1002), 1002),
                _ => (Some(1000), 1000),
            };
            let (code, reason, _) = closes(&server, &body, expected, &name);
            assert_eq!((code, reason.len()), (told, length.saturating_sub(2)), "{name}");
        }
    });
}

#[test]
fn reasons_that_are_text_and_reasons_that_are_not() {
    let (two, three, four) = ("ü".repeat(61), "€".repeat(41), "😀".repeat(30));
    let cases: [(&str, &[u8], bool); 12] = [
        ("empty", b"", true),
        ("two bytes a character", two.as_bytes(), true),
        ("three bytes a character", three.as_bytes(), true),
        ("four bytes a character", four.as_bytes(), true),
        ("a zero byte", b"\0", true),
        ("the last character there is", b"\xf4\x8f\xbf\xbf", true),
        ("beyond it", b"\xf4\x90\x80\x80", false),
        ("a lone continuation", b"\x80", false),
        ("cut within a character", b"abc\xe2\x82", false),
        ("a surrogate", b"\xed\xa0\x80", false),
        ("overlong", b"\xc0\x80", false),
        ("a byte that no text has", b"fine but \xff", false),
    ];
    count("close reasons", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, reason, is_text) in cases {
            for code in [1000u16, 3000, 4999] {
                let body = [&code.to_be_bytes()[..], reason].concat();
                let expected = if is_text { code } else { 1007 };
                let (told, heard, _) = closes(&server, &body, Some(expected), name);
                assert_eq!(told, expected, "{name}");
                assert_eq!(heard.as_bytes(), if is_text { reason } else { b"" }, "{name}");
            }
            // A code that must not be sent is the first fault.
            let body = [&999u16.to_be_bytes()[..], reason].concat();
            assert_eq!(closes(&server, &body, Some(1002), name).0, 1002, "{name}");
        }
    });
}

#[test]
fn a_close_frame_in_pieces_is_one() {
    on_each_kind(|setup| {
        let server = setup.start();
        let bytes = frame::close(4321, "in pieces");
        count("cuts of a close frame", bytes.len() - 1);
        for cut in 1..bytes.len() {
            let mut client = server.client();
            let received = server.stats().bytes_received + cut as u64;
            client.send(&bytes[..cut]);
            server.wait_for("the first piece", |stats| stats.bytes_received >= received);
            client.send(&bytes[cut..]);
            assert_eq!(client.closed(), Some(4321), "cut at {cut}");
            assert_eq!(server.closed(), (4321, "in pieces".to_owned(), CloseCause::Peer), "cut at {cut}");
        }
    });
}
