//! Compressed messages byte for byte: the examples of RFC 7692, section 7.2.3, what RSV1 may stand on (section
//! 6), and what is refused. A compressed message is looked into when its last byte has come, so that half of one
//! holds no more than what was sent.

use crore_engine::{Compression, Limits};
use crore_tests::frame::{BINARY, PING, PONG, TEXT, fragment, masked};
use crore_tests::{Client, Frame, Server, Setup, limits, on_each_kind};

use crate::{count, fails_at_the_end_of, still_speaks};

const RSV1: u8 = 0x40;

/// Both ends keep their contexts, and no message is short enough to leave as it is, or long enough not to.
const COMPRESSION: Compression = Compression {
    level: 6,
    threshold_bytes: usize::MAX,
    server_context_takeover: true,
    client_context_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

fn start(setup: Setup) -> Server {
    Setup { compression: Some(COMPRESSION), ..setup }.start_with(1, Limits { message_bytes_max: 70_000, ..limits() })
}

fn agreed(server: &Server) -> Client {
    let (client, response) = server.tcp().upgraded_with("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    assert!(response.header("Sec-WebSocket-Extensions").is_some());
    client
}

/// Like [`fails_at_the_end_of`], on a connection that compresses.
fn fails(server: &Server, bytes: &[u8], code: u16, name: &str) {
    let mut client = agreed(server);
    client.send(bytes);
    let (answer, reason) = client.frame().close();
    assert_eq!(answer, Some(code), "{name}: {reason}");
    client.ended();
}

/// `data` in stored blocks: DEFLATE that does not compress (RFC 1951, section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a block has 16 bits of length").to_le_bytes();
    [&[0][..], &length, &length.map(|byte| !byte), data].concat()
}

#[test]
fn the_examples_of_the_rfc() {
    let compressed = TEXT | RSV1;
    // One message each: its frames, and what it says.
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("7.2.3.1", vec![masked(compressed, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])], "Hello"),
        (
            "7.2.3.1 in fragments",
            vec![masked(fragment::TEXT | RSV1, &[0xf2, 0x48, 0xcd]), masked(fragment::LAST, &[0xc9, 0xc9, 0x07, 0x00])],
            "Hello",
        ),
        ("7.2.3.2, which refers back", vec![masked(compressed, &[0xf2, 0x00, 0x11, 0x00, 0x00])], "Hello"),
        (
            "7.2.3.3, a block that does not compress",
            vec![masked(compressed, &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00])],
            "Hello",
        ),
        (
            "7.2.3.4, a block that says it is the last",
            vec![masked(compressed, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])],
            "Hello",
        ),
        (
            "7.2.3.5, two blocks",
            vec![masked(compressed, &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])],
            "Hello",
        ),
        ("7.2.3.6, an empty message", vec![masked(compressed, &[0x00])], ""),
        ("as it is, between compressed ones", vec![masked(TEXT, b"Hello")], "Hello"),
        (
            "with empty fragments",
            vec![
                masked(fragment::TEXT | RSV1, &[]),
                masked(fragment::MIDDLE, &[0xf2, 0x48, 0xcd, 0xc9]),
                masked(fragment::MIDDLE, &[]),
                masked(fragment::MIDDLE, &[0xc9, 0x07, 0x00]),
                masked(fragment::LAST, &[]),
            ],
            "Hello",
        ),
        ("stored blocks", vec![masked(compressed, &[stored(b"Hel"), stored(b"lo"), vec![0]].concat())], "Hello"),
    ];
    count("compressed messages", cases.len());
    on_each_kind(|setup| {
        let server = start(setup);
        let mut client = agreed(&server);
        for (name, frames, text) in &cases {
            for between in [vec![], masked(PING, b"now?"), masked(PONG, b"")] {
                client.send(frames.join(&between[..]));
                let mut heard = client.frame();
                while heard.first == PONG {
                    heard = client.frame();
                }
                assert_eq!(heard, Frame { first: TEXT, payload: text.as_bytes().to_vec() }, "{name}");
            }
            // A slow sender; the whole context stays the same.
            client.send_byte_by_byte(&server, frames.concat());
            assert_eq!(client.text(), *text, "{name}, byte by byte");
        }
    });
}

#[test]
fn reserved_bits_where_compression_is_agreed_on() {
    let mut cases = Vec::new();
    for within in [false, true] {
        for first in 0..=255u8 {
            let compressed = [fragment::TEXT, fragment::BINARY, TEXT, BINARY].map(|first| first | RSV1);
            let may_begin = match first & !0x80 {
                // The bit may stand on the first frame of a message, and on no other.
                0x00 => within,
                0x01 | 0x02 => !within,
                0x41 | 0x42 => !within && compressed.contains(&first),
                0x08..=0x0a => first & 0x80 != 0,
                _ => false,
            };
            if !may_begin {
                let before = if within { masked(fragment::BINARY | RSV1, &[0xf2, 0x48]) } else { vec![] };
                let name = format!("first byte {first:#04x}, within a message: {within}");
                cases.push((name, [&before[..], &[first]].concat()));
            }
        }
    }
    count("first bytes with compression", cases.len());
    on_each_kind(|setup| {
        let server = start(setup);
        for (name, bytes) in &cases {
            fails(&server, bytes, 1002, name);
        }
        // Without an agreement the bit has no meaning, whatever others have agreed on.
        for first in [TEXT, BINARY, fragment::TEXT, fragment::BINARY] {
            fails_at_the_end_of(&server, &[first | RSV1], 1002, "nothing was agreed on");
        }
    });
}

#[test]
fn what_is_no_deflate_data_is_refused() {
    let cases: [(&str, &[u8]); 8] = [
        ("a block of type 3", &[0x06]),
        ("a last block of type 3", &[0x07]),
        ("a length that is not repeated", &[0x00, 0x05, 0x00, 0xfb, 0xff]),
        (
            "a length that is not repeated, behind a block",
            &[0x00, 0x01, 0x00, 0xfe, 0xff, b'a', 0x00, 0x01, 0x00, 0x01, 0x00],
        ),
        ("a distance before the beginning", &[0x02, 0x02]),
        ("more codes than there are", &[0xfc, 0xff, 0x01]),
        ("lengths of codes that make no code", &[0x04, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("type 3 behind a last block", &[0x01, 0x01, 0x00, 0xfe, 0xff, b'a', 0x06]),
    ];
    count("broken DEFLATE data", cases.len() * 2);
    on_each_kind(|setup| {
        let server = start(setup);
        for (name, payload) in cases {
            fails(&server, &masked(TEXT | RSV1, payload), 1007, name);
            let fragments = [masked(fragment::BINARY | RSV1, &payload[..1]), masked(fragment::LAST, &payload[1..])];
            if payload.len() > 1 {
                fails(&server, &fragments.concat(), 1007, &format!("{name}, in fragments"));
            }
        }
    });
}

#[test]
fn messages_that_end_within_a_block_are_refused() {
    let cases: [(&str, &[u8]); 6] = [
        ("half a header", &[0x04]),
        ("half a length", &[0x00, 0x05]),
        ("half a stored block", &[0x00, 0x05, 0x00, 0xfa, 0xff, b'H', b'e']),
        ("half a fixed block", &[0xf2, 0x48, 0xcd, 0xc9]),
        ("a block without the empty one behind it", &[0x00, 0x01, 0x00, 0xfe, 0xff, b'a', 0xf2]),
        ("two bytes of a tail", &[0x00, 0x00, 0x00, 0xff]),
    ];
    count("messages that end within a block", cases.len());
    on_each_kind(|setup| {
        let server = start(setup);
        for (name, payload) in cases {
            fails(&server, &masked(BINARY | RSV1, payload), 1007, name);
        }
    });
}

#[test]
fn broken_text_within_a_compressed_message() {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for broken in [&b"\xff"[..], b"\xc3(", b"\xe2\x82A", b"\xed\xa0", b"\xf0\x9f\x98\xc0", b"\xf4\x90"] {
        for before in [0, 1, 15, 16, 100, 1000] {
            let text = [&vec![b'a'; before][..], broken].concat();
            // The text goes on behind the broken byte.
            let message = [stored(&[&text[..], &[b'a'; 2000]].concat()), vec![0]].concat();
            cases.push((format!("{broken:02x?} behind {before} bytes"), masked(TEXT | RSV1, &message)));
        }
        let cut = stored(&broken[..1]);
        let rest =
            [masked(fragment::TEXT | RSV1, &cut), masked(fragment::LAST, &[stored(&broken[1..]), vec![0]].concat())];
        if broken.len() > 1 {
            cases.push((format!("{broken:02x?} across fragments"), rest.concat()));
        }
    }
    cases.push((
        "a character that is cut off".to_owned(),
        masked(TEXT | RSV1, &[stored(b"\xe2\x82"), vec![0]].concat()),
    ));
    count("broken text, compressed", cases.len());
    on_each_kind(|setup| {
        let server = start(setup);
        for (name, bytes) in &cases {
            fails(&server, bytes, 1007, name);
        }
    });
}

#[test]
fn a_message_that_grows_over_the_limit_is_refused() {
    let mut bomb = Vec::with_capacity(10_000);
    let zeros = vec![0; 1 << 20];
    let mut deflate = flate2::Compress::new(flate2::Compression::new(9), false);
    deflate.compress_vec(&zeros, &mut bomb, flate2::FlushCompress::Sync).expect("compressing does not fail");
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 2000, "a thousand to one");
    on_each_kind(|setup| {
        let server = start(setup);
        let mut bystander = agreed(&server);
        // Neither a frame nor the message as it is sent is over the limit.
        fails(&server, &masked(BINARY | RSV1, &bomb), 1009, "in one frame");
        let last = bomb.len() - 1;
        let fragments = bomb.iter().enumerate().flat_map(|(index, byte)| {
            let first = match index {
                0 => fragment::BINARY | RSV1,
                _ if index == last => fragment::LAST,
                _ => fragment::MIDDLE,
            };
            masked(first, &[*byte])
        });
        fails(&server, &fragments.collect::<Vec<u8>>(), 1009, "in fragments of a byte");
        still_speaks(&mut bystander, "behind it");
    });
}
