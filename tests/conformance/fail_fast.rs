//! A frame that breaks a rule is answered at the very byte that breaks it: nothing follows it in these tests, so
//! that whoever waits for more waits for ever (RFC 6455, sections 5.1, 5.2, 5.4 and 5.5).

use crore_engine::Limits;
use crore_tests::frame::{BINARY, CLOSE, PING, PONG, TEXT, fragment, masked};
use crore_tests::{Server, limits, on_each_kind};

use crate::{count, fails_at_the_end_of, fails_at_the_last_of};

const MESSAGE_BYTES_MAX: usize = 70_000;
const FRAGMENTS_MAX: u32 = 16;

fn narrow() -> Limits {
    Limits { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max: FRAGMENTS_MAX, ..limits() }
}

/// Whether a frame may begin with this byte, where no extension is agreed on.
fn may_begin(first: u8, within_message: bool) -> bool {
    match first {
        TEXT | BINARY | fragment::TEXT | fragment::BINARY => !within_message,
        fragment::MIDDLE | fragment::LAST => within_message,
        CLOSE | PING | PONG => true,
        _ => false,
    }
}

/// All first bytes, before a message and within one; what stands before them is the first of a case.
fn first_bytes() -> impl Iterator<Item = (Vec<u8>, u8, bool)> {
    let within = masked(fragment::BINARY, b"the beginning");
    let all = move |before: Vec<u8>, within| (0..=255).map(move |first| (before.clone(), first, within));
    all(Vec::new(), false).chain(all(within, true))
}

#[test]
fn at_the_first_byte() {
    let cases: Vec<_> = first_bytes().filter(|(_, first, within)| !may_begin(*first, *within)).collect();
    count("first bytes", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (before, first, within) in &cases {
            let name = format!("first byte {first:#04x}, within a message: {within}");
            fails_at_the_end_of(&server, &[&before[..], &[*first]].concat(), 1002, &name);
        }
    });
}

#[test]
fn at_the_second_byte() {
    let proper = first_bytes().filter(|(_, first, within)| may_begin(*first, *within));
    let cases: Vec<_> = proper
        .flat_map(|(before, first, within)| (0..=255).map(move |second: u8| (before.clone(), first, second, within)))
        .filter(|(_, first, second, _)| {
            let is_control = first & 0x08 != 0;
            // Without a mask; or a control frame of more than 125 bytes.
            second & 0x80 == 0 || (is_control && second & 0x7f > 125)
        })
        .collect();
    count("second bytes", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (before, first, second, within) in &cases {
            let name = format!("first bytes {first:#04x} {second:#04x}, within a message: {within}");
            fails_at_the_end_of(&server, &[&before[..], &[*first, *second]].concat(), 1002, &name);
        }
    });
}

/// The header up to the end of the length, before the key.
fn announced(first: u8, length: u64, bytes: u8) -> Vec<u8> {
    match bytes {
        2 => [&[first, 0xfe][..], &u16::try_from(length).expect("16 bits").to_be_bytes()].concat(),
        _ => [&[first, 0xff][..], &length.to_be_bytes()].concat(),
    }
}

/// The same up to the byte behind which the length is over `limit` whatever follows.
fn decided(first: u8, length: u64, bytes: u8, limit: u64) -> Vec<u8> {
    let least = |missing: u32| length >> (8 * missing) << (8 * missing);
    let missing = (0..u32::from(bytes)).take_while(|&missing| least(missing) > limit).last();
    let mut header = announced(first, length, bytes);
    header.truncate(header.len() - missing.expect("it is over the limit") as usize);
    header
}

#[test]
fn at_a_length_that_is_not_in_its_shortest_form() {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for (kind, before, first) in [
        ("text", vec![], TEXT),
        ("a fragment", vec![], fragment::BINARY),
        ("a continuation", masked(fragment::TEXT, b"a"), fragment::MIDDLE),
        ("an end", masked(fragment::BINARY, b"a"), fragment::LAST),
    ] {
        let within_64 = [0, 1, 63, 124, 125, 126, 127, 128, 255, 256, 257, 1000, 32_767, 32_768, 65_534, 65_535];
        let lengths = (0..=125).map(|length| (length, 2)).chain(within_64.map(|length| (length, 8)));
        for (length, bytes) in lengths {
            let mut header = announced(first, length, bytes);
            if bytes == 8 {
                // Six bytes of zeros say that two would have done.
                header.truncate(8);
            }
            cases.push((format!("{length} in {bytes} bytes, as {kind}"), [before.clone(), header].concat()));
        }
    }
    count("lengths that are not minimal", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, bytes) in &cases {
            fails_at_the_end_of(&server, bytes, 1002, name);
        }
    });
}

#[test]
fn at_the_highest_bit_of_a_length() {
    let cases: Vec<u8> = (0x80..=0xff).collect();
    count("lengths over 63 bits", cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for highest in &cases {
            fails_at_the_end_of(&server, &[BINARY, 0xff, *highest], 1002, &format!("highest byte {highest:#04x}"));
        }
    });
}

#[test]
fn at_a_length_over_the_limit() {
    let limit = MESSAGE_BYTES_MAX as u64;
    let mut cases: Vec<(String, Vec<u8>)> = (17..63)
        .flat_map(|bits| [(TEXT, 1u64 << bits), (fragment::BINARY, (1 << bits) + 1), (BINARY, (2 << bits) - 1)])
        .map(|(first, length)| (format!("{first:#04x} of {length} bytes"), decided(first, length, 8, limit)))
        .collect();
    cases.push(("one byte too many".to_owned(), decided(BINARY, limit + 1, 8, limit)));
    for (name, sent, length, bytes) in [
        ("one byte too many in a second fragment", 60_000, limit - 60_000 + 1, 2),
        ("the highest length of 16 bits behind a fragment", 60_000, 65_535, 2),
        ("a length of 64 bits behind a fragment", 60_000, 65_536, 8),
    ] {
        let before = masked(fragment::BINARY, &vec![0; sent]);
        let header = decided(fragment::LAST, length, bytes, limit - sent as u64);
        cases.push((name.to_owned(), [before, header].concat()));
    }
    count("lengths over the limit", cases.len());
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for (name, bytes) in &cases {
            fails_at_the_end_of(&server, bytes, 1009, name);
        }
        just_within_the_limits(&server);
    });
}

fn just_within_the_limits(server: &Server) {
    let mut client = server.client();
    client.send(masked(BINARY, &[7; MESSAGE_BYTES_MAX]));
    assert_eq!(client.frame().payload.len(), MESSAGE_BYTES_MAX);
    client.send(masked(fragment::BINARY, &[7; MESSAGE_BYTES_MAX - 1]));
    client.send(masked(fragment::LAST, &[7]));
    assert_eq!(client.frame().payload.len(), MESSAGE_BYTES_MAX);
    client.close();
}

#[test]
fn not_before_the_byte_that_breaks_the_rule() {
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("a reserved bit behind a message", [masked(TEXT, b"say nothing"), vec![0xc1]].concat(), 1002),
        ("no mask", vec![TEXT, 0x05], 1002),
        ("a ping of 126 bytes", vec![PING, 0xfe], 1002),
        ("125 in 16 bits", announced(TEXT, 125, 2), 1002),
        ("65,535 in 64 bits", announced(BINARY, 65_535, 8)[..8].to_vec(), 1002),
        ("a length over the limit", announced(BINARY, MESSAGE_BYTES_MAX as u64 + 1, 8), 1009),
        ("text within a message", [masked(fragment::TEXT, b"a"), vec![TEXT]].concat(), 1002),
        ("a close code that may not be sent", masked(CLOSE, &999u16.to_be_bytes()), 1002),
        ("half a close code", masked(CLOSE, b"\x03"), 1002),
    ];
    count("bytes before the one that breaks a rule", cases.len());
    on_each_kind(|setup| {
        let server = setup.start_with(1, narrow());
        for (name, bytes, code) in &cases {
            if name.ends_with("behind a message") {
                let mut client = server.client();
                client.send(bytes);
                assert_eq!(client.text(), "nothing");
                assert_eq!(client.closed(), Some(*code), "{name}");
            } else {
                fails_at_the_last_of(&server, bytes, 0, *code, name);
            }
        }
    });
}
