//! Control frames between the fragments of a message, in every position (RFC 6455, sections 5.4 and 5.5).

use crore_tests::frame::{self, BINARY, CLOSE, PING, PONG, TEXT, fragment, masked};
use crore_tests::{Client, Frame, Server, on_each_kind};

use crate::{count, still_speaks};

/// Messages in fragments: their names, their kinds, and what is in each fragment.
fn messages() -> Vec<(&'static str, u8, Vec<&'static [u8]>)> {
    vec![
        ("two fragments", TEXT, vec![b"one", b"two"]),
        ("characters cut between fragments", TEXT, vec![b"\xe2", b"\x82", b"\xac\xf0\x9f", b"\x98\x80"]),
        ("empty fragments", TEXT, vec![b"", b"", b""]),
        ("an empty end", BINARY, vec![b"\xff", b"\xfe", b""]),
        ("an empty start", BINARY, vec![b"", b"\0\x01\x02"]),
        ("long fragments", BINARY, vec![&[1; 126], &[2; 65_535], &[3; 65_536], &[4; 20]]),
    ]
}

/// A name, frames, and the payloads of the pongs that answer them.
type Control = (&'static str, Vec<u8>, Vec<Vec<u8>>);

/// Control frames that may come at any time.
fn controls() -> Vec<Control> {
    vec![
        ("a ping", masked(PING, b""), vec![vec![]]),
        ("a ping with a payload", masked(PING, b"are you there?"), vec![b"are you there?".to_vec()]),
        ("the longest ping", masked(PING, &[0xa5; 125]), vec![vec![0xa5; 125]]),
        ("a pong", masked(PONG, b"unasked"), vec![]),
        ("the longest pong", masked(PONG, &[0xff; 125]), vec![]),
        ("a pong and a ping", [masked(PONG, b""), masked(PING, b"1")].concat(), vec![b"1".to_vec()]),
    ]
}

/// The frames of a message.
fn fragments(kind: u8, parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let last = parts.len() - 1;
    let first = |index: usize| match index {
        0 => kind & 0x0f,
        _ => fragment::MIDDLE,
    };
    let fin = |index: usize| if index == last { 0x80 } else { 0 };
    parts.iter().enumerate().map(|(index, part)| masked(first(index) | fin(index), part)).collect()
}

/// Hears pongs and then, or before them, the echo; in which order depends on where the control frames stood.
fn hears(client: &mut Client, before: &[Vec<u8>], echo: Option<&Frame>, behind: &[Vec<u8>], name: &str) {
    let pong = |payload: &Vec<u8>| Frame { first: PONG, payload: payload.clone() };
    let expected = before.iter().map(pong).chain(echo.cloned()).chain(behind.iter().map(pong));
    for frame in expected {
        let heard = client.frame();
        assert!(heard == frame, "{name}: {:#x} with {} bytes", heard.first, heard.payload.len());
    }
}

#[test]
fn pings_and_pongs_in_every_position() {
    let mut cases = 0;
    for (message, kind, parts) in messages() {
        cases += controls().len() * (parts.len() + 1) * 2;
        let frames = fragments(kind, &parts);
        let echo = Frame { first: kind, payload: parts.concat() };
        on_each_kind(|setup| {
            let server = setup.start();
            for (control, bytes, pongs) in controls() {
                for position in 0..=frames.len() {
                    let name = format!("{control} before fragment {position} of {message}");
                    let mut all = frames.clone();
                    all.insert(position, bytes.clone());
                    let (before, behind) =
                        if position == frames.len() { (&[][..], &pongs[..]) } else { (&pongs[..], &[][..]) };
                    let mut client = server.client();
                    client.send(all.concat());
                    hears(&mut client, before, Some(&echo), behind, &name);
                    // The same, each frame for itself.
                    for frame in &all {
                        let received = server.stats().bytes_received + frame.len() as u64;
                        client.send(frame);
                        server.wait_for("a frame", |stats| stats.bytes_received >= received);
                    }
                    hears(&mut client, before, Some(&echo), behind, &name);
                    still_speaks(&mut client, &name);
                }
            }
        });
    }
    count("control frames between fragments", cases);
}

#[test]
fn a_ping_at_every_byte_between_two_frames_cut_anywhere() {
    let bytes = [
        masked(fragment::TEXT, b"a\xe2\x82"),
        masked(PING, b"now?"),
        masked(fragment::MIDDLE, b"\xac"),
        masked(PONG, b"never asked"),
        masked(fragment::LAST, b"!"),
    ]
    .concat();
    count("cuts of a message with control frames", bytes.len() - 1);
    on_each_kind(|setup| {
        let server = setup.start();
        for cut in 1..bytes.len() {
            let mut client = server.client();
            let received = server.stats().bytes_received + cut as u64;
            client.send(&bytes[..cut]);
            server.wait_for("the first part", |stats| stats.bytes_received >= received);
            client.send(&bytes[cut..]);
            let echo = Frame { first: TEXT, payload: "a€!".into() };
            hears(&mut client, &[b"now?".to_vec()], Some(&echo), &[], &format!("cut at {cut}"));
        }
    });
}

#[test]
fn a_close_frame_in_every_position() {
    let mut cases = 0;
    for (message, kind, parts) in messages() {
        if parts.concat().len() > 1000 {
            // What a peer sends behind its close frame is not waited for: the end may be a reset.
            continue;
        }
        cases += parts.len() + 1;
        let frames = fragments(kind, &parts);
        on_each_kind(|setup| {
            let server = setup.start();
            for position in 0..=frames.len() {
                let name = format!("a close frame before fragment {position} of {message}");
                let mut all = frames.clone();
                all.insert(position, frame::close(4000 + u16::from(kind), "enough"));
                let mut client = server.client();
                client.send(all.concat());
                if position == frames.len() {
                    assert_eq!(client.frame().payload.len(), parts.concat().len(), "{name}");
                }
                assert_eq!(client.closed(), Some(4000 + u16::from(kind)), "{name}");
                let closed = server.closed();
                assert_eq!((closed.0, closed.1.as_str()), (4000 + u16::from(kind), "enough"), "{name}");
            }
        });
    }
    count("close frames between fragments", cases);
}

#[test]
fn a_breach_between_fragments_ends_the_message() {
    let cases: [(&str, Vec<u8>, u16); 8] = [
        ("a text", masked(TEXT, b"x"), 1002),
        ("a binary message", masked(BINARY, b""), 1002),
        ("the start of a text", masked(fragment::TEXT, b"x"), 1002),
        ("a fragmented ping", masked(PING & 0x7f, b""), 1002),
        ("a fragmented close frame", masked(CLOSE & 0x7f, b""), 1002),
        ("a ping with a reserved bit", masked(PING | 0x40, b""), 1002),
        ("a continuation with a reserved bit", masked(0x40, b""), 1002),
        ("a close frame with half a code", masked(CLOSE, b"\x03"), 1002),
    ];
    count("breaches between fragments", cases.len() * 3);
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, breach, code) in &cases {
            ends_at_every_position(&server, breach, *code, name);
        }
    });
}

fn ends_at_every_position(server: &Server, breach: &[u8], code: u16, name: &str) {
    let frames = fragments(TEXT, &[b"one", b"two", b"three", b"four"]);
    for position in 1..frames.len() {
        let mut all = frames.clone();
        all.insert(position, breach.to_vec());
        let mut client = server.client();
        client.send(all.concat());
        assert_eq!(client.closed(), Some(code), "{name} before fragment {position}");
        assert_eq!(server.closed().0, code, "{name} before fragment {position}");
    }
}
