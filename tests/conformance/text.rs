//! Text that is no UTF-8 is answered at the byte where it breaks, in the middle of a frame (RFC 6455, section
//! 8.1). What is right is taken from the standard library.

use crore_tests::frame::{MASK, TEXT, fragment, header};
use crore_tests::{Server, on_each_kind};

use crate::{count, fails_at_the_end_of, fails_at_the_last_of};

/// What the frame announces: far more than ever comes.
const ANNOUNCED: u64 = 5000;

/// Second bytes at the edges of what may follow a first one.
const SECOND: [u8; 12] = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xe0, 0xff];

/// The same of third and fourth bytes, where the edges are always the same.
const FURTHER: [u8; 4] = [0x7f, 0x80, 0xbf, 0xc0];

/// Sequences that their last byte breaks, and no byte before: every first byte, and the edges behind each.
fn broken() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open: Vec<Vec<u8>> = (0x80..=0xff).map(|first| vec![first]).collect();
    while let Some(sequence) = open.pop() {
        match str::from_utf8(&sequence) {
            Ok(_) => {}
            Err(error) if error.error_len().is_some() => found.push(sequence),
            Err(_) => {
                let next = if sequence.len() == 1 { &SECOND[..] } else { &FURTHER };
                open.extend(next.iter().map(|&byte| [&sequence[..], &[byte]].concat()));
            }
        }
    }
    found
}

/// The beginning of a frame that announces [`ANNOUNCED`] bytes, with the first ones of its payload.
fn beginning(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, ANNOUNCED);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn each(table: &str, cases: &[(String, Vec<u8>)], check: impl Fn(&Server, &[u8], &str)) {
    count(table, cases.len());
    on_each_kind(|setup| {
        let server = setup.start();
        for (name, bytes) in cases {
            check(&server, bytes, name);
        }
    });
}

fn at_the_last_byte(server: &Server, bytes: &[u8], name: &str) {
    fails_at_the_end_of(server, bytes, 1007, name);
}

#[test]
fn in_a_frame_of_its_own() {
    let cases: Vec<(String, Vec<u8>)> =
        broken().into_iter().map(|sequence| (format!("{sequence:02x?}"), beginning(TEXT, &sequence))).collect();
    each("broken text", &cases, at_the_last_byte);
}

#[test]
fn behind_text_of_any_length() {
    // Whole words of text are judged at once; the fault is somewhere within one.
    let sequences: [&[u8]; 6] = [b"\xff", b"\xc3(", b"\xe2\x82A", b"\xed\xa0", b"\xf0\x9f\x98\xc0", b"\xf4\x90"];
    let mut cases = Vec::new();
    for sequence in sequences {
        for length in (0..70).chain([127, 128, 255, 256, 1000, 4000]) {
            let payload = [&vec![b'a'; length][..], sequence].concat();
            cases.push((format!("{sequence:02x?} behind {length} bytes"), beginning(TEXT, &payload)));
            let payload = ["é".repeat(length / 2).as_bytes(), sequence].concat();
            cases.push((format!("{sequence:02x?} behind {} characters", length / 2), beginning(TEXT, &payload)));
        }
    }
    each("broken text behind text", &cases, at_the_last_byte);
}

#[test]
fn across_fragments() {
    let mut cases = Vec::new();
    for sequence in broken() {
        if sequence.len() == 1 && sequence[0] % 16 != 0 {
            continue;
        }
        for cut in 0..sequence.len() {
            let (start, rest) = sequence.split_at(cut);
            let first = crore_tests::frame::masked(fragment::TEXT, start);
            let bytes = [first, beginning(fragment::MIDDLE, rest)].concat();
            cases.push((format!("{sequence:02x?}, {cut} bytes in the first fragment"), bytes));
        }
    }
    each("broken text across fragments", &cases, at_the_last_byte);
}

#[test]
fn byte_by_byte() {
    let sequences = broken().into_iter().filter(|sequence| sequence.len() > 2 || sequence[0] % 8 == 0);
    let cases: Vec<(String, Vec<u8>)> = sequences
        .map(|sequence| {
            (format!("{sequence:02x?}"), beginning(TEXT, &[b"Gr\xc3\xbc\xc3\x9fe ", &sequence[..]].concat()))
        })
        .collect();
    each("broken text byte by byte", &cases, |server, bytes, name| {
        fails_at_the_last_of(server, bytes, header(TEXT, ANNOUNCED).len(), 1007, name);
    });
}

#[test]
fn at_the_end_of_a_message_within_a_character() {
    let starts: [&[u8]; 7] = [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"abc\xed\x9f"];
    let mut cases = Vec::new();
    for start in starts {
        let masked = crore_tests::frame::masked;
        cases.push((format!("{start:02x?} in one frame"), masked(TEXT, start)));
        let fragments = [masked(fragment::TEXT, b""), masked(fragment::LAST, start)];
        cases.push((format!("{start:02x?} in the last fragment"), fragments.concat()));
        let fragments = [masked(fragment::TEXT, start), masked(fragment::LAST, b"")];
        cases.push((format!("{start:02x?} before an empty fragment"), fragments.concat()));
        // The end is known only with the key of the last fragment, empty as it is.
        let fragments = [masked(fragment::TEXT, start), masked(fragment::MIDDLE, b""), masked(fragment::LAST, b"")];
        cases.push((format!("{start:02x?} before two empty fragments"), fragments.concat()));
    }
    each("text that ends within a character", &cases, at_the_last_byte);
}
