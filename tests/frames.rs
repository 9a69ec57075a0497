//! Every rule about frames on real sockets: what goes through, and what is answered with which close
//! code (RFC 6455, sections 5, 7.4 and 8.1). Each sequence is sent whole, and byte by byte.

use crore_engine::{CloseCause, Limits, MessageKind};
use crore_tests::frame::{self, BINARY, CLOSE, PING, PONG, TEXT, fragment, header, masked};
use crore_tests::{Client, Event, Frame, Server, limits, on_each_kind};

const MESSAGE_BYTES_MAX: usize = 70_000;
const FRAGMENTS_MAX: u32 = 16;

fn narrow() -> Limits {
    Limits { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max: FRAGMENTS_MAX, ..limits() }
}

/// Runs `check` on a fresh connection over which `bytes` have been sent, at both paces.
fn at_both_paces(server: &Server, bytes: &[u8], check: impl Fn(&mut Client)) {
    // Byte by byte a long message takes a turn of the worker for each byte: its edges will do.
    const SLOW_BYTES_MAX: usize = 1500;
    let mut whole = server.client();
    whole.send(bytes);
    check(&mut whole);
    drop(whole);
    server.wait_until_empty();

    let mut slow = server.client();
    let (edge, middle) = match bytes.len() {
        0..SLOW_BYTES_MAX => (bytes.len(), bytes.len()),
        long => (20, long - 20),
    };
    slow.send_byte_by_byte(server, &bytes[..edge]);
    slow.send(&bytes[edge..middle]);
    slow.send_byte_by_byte(server, &bytes[middle..]);
    check(&mut slow);
    drop(slow);
    server.wait_until_empty();
}

#[test]
fn messages_of_all_lengths_come_back_byte_for_byte() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 125, 126, 127, 128, 1000, 16_383, 16_384, 65_535, 65_536, 70_000]
        {
            let payload: Vec<u8> = (0u32..).map(|n| n.to_le_bytes()[0] ^ 0x5a).take(length).collect();
            at_both_paces(&server, &masked(BINARY, &payload), |client| {
                assert!(client.frame() == Frame { first: BINARY, payload: payload.clone() }, "{length} bytes");
            });
            let text = "aß€😀".repeat(length / 10) + &"x".repeat(length % 10);
            at_both_paces(&server, &masked(TEXT, text.as_bytes()), |client| {
                assert!(client.frame() == Frame { first: TEXT, payload: text.clone().into_bytes() }, "{length} bytes");
            });
        }
    });
}

#[test]
fn messages_that_come_together_keep_their_order() {
    let lengths = [1, 0, 125, 126, 9000, 3, 20_000, 2, 16_000, 70_000, 1];
    let mut bytes = Vec::new();
    for (index, length) in (0u8..).zip(lengths) {
        bytes.extend(masked(BINARY, &vec![index; length]));
    }
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for chunk in [bytes.len(), 16_384, 10_007, 1999, 333] {
            let mut client = server.client();
            for part in bytes.chunks(chunk) {
                client.send(part);
            }
            for (index, length) in (0u8..).zip(lengths) {
                assert!(client.frame() == Frame { first: BINARY, payload: vec![index; length] }, "message {index}");
            }
        }
    });
}

#[test]
fn a_fragmented_message_is_one_message_whatever_comes_between() {
    let mut bytes = Vec::new();
    // The euro sign is cut between fragments, and an empty fragment is none the worse for it.
    for (first, payload) in [
        (fragment::TEXT, &b"a\xe2"[..]),
        (fragment::MIDDLE, b"\x82"),
        (PING, b"in between"),
        (fragment::MIDDLE, b""),
        (PONG, b"unasked"),
        (PING, b""),
        (fragment::LAST, b"\xac!"),
        (fragment::BINARY, b""),
        (fragment::LAST, b""),
        (fragment::BINARY, b"\xff"),
        (fragment::LAST, b"\xfe"),
        (TEXT, b"whole"),
    ] {
        bytes.extend(masked(first, payload));
    }
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        at_both_paces(&server, &bytes, |client| {
            for (first, payload) in [
                (PONG, &b"in between"[..]),
                (PONG, b""),
                (TEXT, "a€!".as_bytes()),
                (BINARY, b""),
                (BINARY, b"\xff\xfe"),
                (TEXT, b"whole"),
            ] {
                assert_eq!(client.frame(), Frame { first, payload: payload.to_vec() });
            }
        });
        let pings = server.events_so_far().into_iter().filter(|event| matches!(event, Event::Ping(_))).count();
        assert_eq!(pings, 4, "two at each pace");
    });
}

#[test]
fn echoes_in_place_and_of_messages_in_parts_keep_their_order() {
    let mut bytes = Vec::new();
    for (first, payload) in [
        (TEXT, "one"),
        (fragment::TEXT, "tw"),
        (fragment::LAST, "o"),
        (TEXT, "three"),
        (TEXT, ""),
        (TEXT, "five"),
        (TEXT, "say six"),
        (TEXT, "seven"),
    ] {
        bytes.extend(masked(first, payload.as_bytes()));
    }
    on_each_kind(|setup| {
        let server = setup.start();
        at_both_paces(&server, &bytes, |client| {
            let heard: Vec<String> = std::iter::repeat_with(|| client.text()).take(7).collect();
            assert_eq!(heard, ["one", "two", "three", "", "five", "six", "seven"]);
        });
    });
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for length in [0, 1, 8, 124, 125] {
            let payload = vec![0xa5; length];
            at_both_paces(&server, &masked(PING, &payload), |client| {
                assert_eq!(client.frame(), Frame { first: PONG, payload: payload.clone() });
                assert_eq!(client.ask("after it"), "after it");
            });
        }
        // Unasked pongs are signs of life and nothing else.
        at_both_paces(&server, &[masked(PONG, b"12345678"), masked(PONG, b"")].concat(), |client| {
            assert_eq!(client.ask("after it"), "after it");
        });
    });
}

#[test]
fn a_message_keeps_its_kind() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        let mut client = server.client();
        client.send(masked(BINARY, b"\xc3\x28"));
        assert_eq!(client.frame().first, BINARY);
        assert_eq!(client.ask("ä"), "ä");
        server.opened();
        assert_eq!(server.event(), Event::Message(MessageKind::Binary, b"\xc3\x28".to_vec()));
        assert_eq!(server.event(), Event::Message(MessageKind::Text, "ä".into()));
    });
}

/// What breaks a rule, its name, and the code that answers it.
fn violations() -> Vec<(String, Vec<u8>, u16)> {
    let mut all: Vec<(String, Vec<u8>, u16)> = Vec::new();
    let mut add = |name: &str, code: u16, bytes: Vec<u8>| all.push((name.to_owned(), bytes, code));
    for bit in [0x40, 0x20, 0x10, 0x70] {
        for first in [TEXT, BINARY, PING, PONG, CLOSE, fragment::TEXT] {
            add(&format!("reserved bits {bit:#x} on {first:#x}"), 1002, masked(first | bit, b""));
        }
        let fragments = [masked(fragment::TEXT, b"a"), masked(fragment::LAST | bit, b"b")].concat();
        add(&format!("reserved bits {bit:#x} on a continuation"), 1002, fragments);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        add(&format!("opcode {opcode}"), 1002, masked(0x80 | opcode, b"x"));
    }
    for first in [PING, PONG, CLOSE] {
        add("a control frame without FIN", 1002, masked(first & 0x7f, b""));
        add("a control frame of 126 bytes", 1002, masked(first, &[0; 126]));
        add("the header alone of a control frame of 64 KiB", 1002, header(first, 65_536));
    }
    add("no mask", 1002, b"\x81\x05hello".to_vec());
    add("no mask on a ping", 1002, b"\x89\x00".to_vec());
    add("no mask on a close frame", 1002, b"\x88\x02\x03\xe8".to_vec());
    add("125 in 16 bits", 1002, [&[TEXT, 0xfe, 0, 125], &frame::MASK[..]].concat());
    add("65,535 in 64 bits", 1002, [&[TEXT, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &frame::MASK[..]].concat());
    add("a length of 64 bits", 1002, [&[BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], &frame::MASK[..]].concat());
    add("a continuation of nothing", 1002, masked(fragment::MIDDLE, b"x"));
    add("an end of nothing", 1002, masked(fragment::LAST, b"x"));
    let ended = [masked(fragment::TEXT, b"a"), masked(fragment::LAST, b"b"), masked(fragment::LAST, b"c")];
    add("an end behind the end", 1002, ended[2].clone());
    add("text within a message", 1002, [masked(fragment::TEXT, b"a"), masked(TEXT, b"b")].concat());
    add("binary within a message", 1002, [masked(fragment::TEXT, b"a"), masked(fragment::BINARY, b"b")].concat());

    for (name, text) in [
        ("a lone continuation byte", &b"\x80"[..]),
        ("a lone start", b"\xc3("),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong euro", b"\xf0\x82\x82\xac"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("a byte that no text has", b"abc\xff"),
        ("a character that is cut off", b"abc\xe2\x82"),
    ] {
        add(name, 1007, masked(TEXT, text));
        add(&format!("{name}, behind much text"), 1007, masked(TEXT, &[&[b'a'; 1000], text].concat()));
        add(&format!("{name}, in fragments"), 1007, {
            let (first, second) = text.split_at(text.len() / 2);
            [masked(fragment::TEXT, first), masked(fragment::LAST, second)].concat()
        });
    }
    // The message is not over, but it can't become right any more.
    add("a wrong fragment of many", 1007, masked(fragment::TEXT, b"\xff"));

    add("1 GB announced", 1009, header(BINARY, 1 << 30));
    add("2^62 bytes announced", 1009, header(TEXT, 1 << 62));
    add("a byte more than the limit", 1009, header(BINARY, MESSAGE_BYTES_MAX as u64 + 1));
    let beyond = [masked(fragment::BINARY, &[0; 60_000]), header(fragment::LAST, 10_001)].concat();
    add("a byte more than the limit in fragments", 1009, beyond);
    let mut fragments = masked(fragment::BINARY, b"");
    for _ in 0..FRAGMENTS_MAX {
        fragments.extend(masked(fragment::MIDDLE, b""));
    }
    add("too many fragments", 1009, fragments);

    add("half a status code", 1002, masked(CLOSE, b"\x03"));
    add("a close code that is never sent", 1002, frame::close(1005, ""));
    add("a reason that is not UTF-8", 1007, masked(CLOSE, b"\x03\xe8\xff"));
    all
}

#[test]
fn what_breaks_a_rule_is_answered_with_its_code_and_an_orderly_end() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for (name, bytes, code) in violations() {
            println!("{name}");
            at_both_paces(&server, &bytes, |client| {
                let (answer, reason) = client.frame().close();
                assert_eq!(answer, Some(code), "{name}: {reason}");
                assert!(reason.len() > 10, "a reason for {name}: {reason}");
                client.ended();
            });
            for _ in 0..2 {
                assert_eq!(server.closed(), (code, String::new(), CloseCause::Protocol), "{name}");
            }
        }
        assert!(server.stats().closed_protocol > 100);
    });
}

#[test]
fn what_came_before_the_breach_is_answered_before_the_close_frame() {
    let bytes =
        [masked(TEXT, b"one"), masked(TEXT, b"two"), masked(PING, b"?"), masked(0x83, b""), masked(TEXT, b"three")];
    on_each_kind(|setup| {
        let server = setup.start();
        at_both_paces(&server, &bytes[..4].concat(), |client| {
            assert_eq!((client.text(), client.text()), ("one".to_owned(), "two".to_owned()));
            assert_eq!(client.frame(), Frame { first: PONG, payload: b"?".to_vec() });
            assert_eq!(client.closed(), Some(1002));
        });
        // Nothing behind the breach is heard.
        let mut client = server.client();
        client.send(bytes.concat());
        assert_eq!((client.text(), client.text()), ("one".to_owned(), "two".to_owned()));
        assert_eq!(client.frame().first, PONG);
        assert_eq!(client.closed(), Some(1002));
        let messages = server.events_so_far().into_iter().filter(|event| matches!(event, Event::Message(..))).count();
        assert_eq!(messages, 6);
    });
}

#[test]
fn no_reset_takes_the_close_frame_from_a_client_that_goes_on_sending() {
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        let mut bystander = server.client();
        for announced in [1 << 30, 1 << 40] {
            let mut client = server.client();
            // It has sent megabytes before it looks at what the server says.
            client.send(header(BINARY, announced));
            for _ in 0..64 {
                client.send(vec![0x55; 64 * 1024]);
            }
            assert_eq!(client.frame().close().0, Some(1009));
            client.send(vec![0x55; 64 * 1024]);
            client.ended();
            assert_eq!(bystander.ask("still here"), "still here");
        }
    });
}

#[test]
fn all_codes_that_may_be_sent_are_echoed() {
    on_each_kind(|setup| {
        let server = setup.start();
        let reason = "ü".repeat(61);
        for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
            at_both_paces(&server, &frame::close(code, &reason), |client| assert_eq!(client.closed(), Some(code)));
            for _ in 0..2 {
                assert_eq!(server.closed(), (code, reason.clone(), CloseCause::Peer));
            }
        }
        at_both_paces(&server, &masked(CLOSE, b""), |client| assert_eq!(client.closed(), None));
        assert_eq!(server.closed(), (1005, String::new(), CloseCause::Peer));
    });
}

#[test]
fn random_streams_match_a_model_however_they_are_cut() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    on_each_kind(|setup| {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = setup.start_with(1, narrow());
        for _ in 0..40 {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for _ in 0..random.usize(1..20) {
                let (opcode, payload): (u8, Vec<u8>) = if random.bool() {
                    let bytes = length(&mut random);
                    (BINARY, std::iter::repeat_with(|| random.u8(..)).take(bytes).collect())
                } else {
                    let characters = length(&mut random) / 3;
                    let text: String =
                        std::iter::repeat_with(|| random.char('a'..'\u{7ff}')).take(characters).collect();
                    (TEXT, text.into_bytes())
                };
                random_fragments(&mut random, opcode, &payload, &mut bytes, &mut expected);
                expected.push(Frame { first: opcode, payload });
            }
            let mut client = server.client();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let cut = random.usize(1..=rest.len().min(20_000));
                client.send(&rest[..cut]);
                rest = &rest[cut..];
            }
            let mut expected = expected.into_iter().peekable();
            while expected.peek().is_some() {
                let frame = client.frame();
                // Of several pongs that wait for the client to read only the last is sent (section 5.5.3).
                while expected.next_if(|next| next.first == PONG && *next != frame).is_some() {}
                let next = expected.next();
                assert!(
                    next.as_ref() == Some(&frame),
                    "{} bytes of {:#x} came, not {:?}",
                    frame.payload.len(),
                    frame.first,
                    next
                );
            }
            client.close();
        }
    });
}

fn length(random: &mut fastrand::Rng) -> usize {
    match random.u8(0..4) {
        0 => random.usize(0..10),
        1 => random.usize(100..200),
        2 => random.usize(1000..5000),
        _ => random.usize(0..70_000),
    }
}

/// Cuts a message into a random number of frames with pings between them, and notes the pongs.
fn random_fragments(
    random: &mut fastrand::Rng,
    opcode: u8,
    payload: &[u8],
    bytes: &mut Vec<u8>,
    expected: &mut Vec<Frame>,
) {
    let mut rest = payload;
    let mut first = opcode & 0x7f;
    for _ in 0..random.usize(0..5) {
        let (part, others) = rest.split_at(random.usize(0..=rest.len()));
        bytes.extend(masked(first, part));
        (first, rest) = (fragment::MIDDLE, others);
        if random.u8(0..3) == 0 {
            let ping = vec![random.u8(..); random.usize(0..=125)];
            bytes.extend(masked(PING, &ping));
            expected.push(Frame { first: PONG, payload: ping });
        }
    }
    bytes.extend(masked(first | 0x80, rest));
}
