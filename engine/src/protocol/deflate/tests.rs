//! What is agreed on, and that what is compressed comes back.

use super::*;
use crate::protocol::extensions::offers;
use crate::protocol::frame::Opcode;
use crate::protocol::random::Random;
use distances::largest_distance;

mod distances;

fn negotiate(compression: &Compression, offer: &str) -> Option<NegotiatedDeflate> {
    compression.negotiate(offers(offer).map(|offer| offer.expect("well-formed")))
}

const TAKEOVER: Compression = Compression {
    level: 6,
    threshold_bytes: 1,
    server_context_takeover: true,
    client_context_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

#[test]
fn an_answer_follows_from_the_first_offer_that_can_be_met() {
    let all = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
               server_max_window_bits=9; client_max_window_bits=10";
    for (offer, answer) in [
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate", Some("permessage-deflate")),
        ("Permessage-Deflate", Some("permessage-deflate")),
        ("permessage-deflate; client_max_window_bits", Some("permessage-deflate")),
        ("permessage-deflate; client_max_window_bits=15", Some("permessage-deflate")),
        ("permessage-deflate; client_max_window_bits=8", Some("permessage-deflate; client_max_window_bits=8")),
        ("permessage-deflate; server_max_window_bits=15", Some("permessage-deflate; server_max_window_bits=15")),
        ("permessage-deflate; server_max_window_bits=8", Some("permessage-deflate; server_max_window_bits=8")),
        ("permessage-deflate; server_max_window_bits=\"10\"", Some("permessage-deflate; server_max_window_bits=10")),
        ("permessage-deflate; server_no_context_takeover", Some("permessage-deflate; server_no_context_takeover")),
        (all, Some(all)),
        // Section 7.1.3: the first one is preferred, what can't be met is passed over.
        (
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; use_y, permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits=+9", None),
        ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
    ] {
        let negotiated = negotiate(&TAKEOVER, offer);
        assert_eq!(negotiated.map(|negotiated| negotiated.answer).as_deref(), answer, "{offer}");
    }
}

#[test]
fn what_we_do_not_want_is_said_whatever_is_offered() {
    let small = Compression { server_window_bits: 11, client_window_bits: 12, ..TAKEOVER };
    for (compression, offer, answer) in [
        (
            Compression::default(),
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            small,
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=11; client_max_window_bits=12",
        ),
        (
            small,
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        ),
        // A client that can't be told to use a small window must not fill ours with a large one.
        (small, "permessage-deflate", "permessage-deflate; client_no_context_takeover; server_max_window_bits=11"),
    ] {
        assert_eq!(negotiate(&compression, offer).expect("agreed").answer, answer, "{offer}");
    }
}

#[test]
fn both_ends_understand_the_agreement_alike() {
    for bits in 0..1 << 10 {
        let bit = |index: u32| bits >> index & 1 != 0;
        let ours = Compression {
            server_context_takeover: bit(0),
            client_context_takeover: bit(1),
            server_window_bits: 8 + (bits >> 2 & 7) as u8,
            client_window_bits: 15,
            ..TAKEOVER
        };
        let theirs = Compression {
            server_context_takeover: bit(5),
            client_context_takeover: bit(6),
            server_window_bits: 15,
            client_window_bits: 8 + (bits >> 7 & 7) as u8,
            ..TAKEOVER
        };
        let mut offer = String::new();
        append_offer(&mut offer, &theirs);
        let negotiated = negotiate(&ours, &offer).expect("agreed");
        let agreement = negotiated.agreement;
        assert_eq!(parse_answer(&negotiated.answer, &theirs), Some(agreement), "{offer} -> {}", negotiated.answer);
        for (role, other) in [(Role::Server, Role::Client), (Role::Client, Role::Server)] {
            assert_eq!(agreement.outbound(role), agreement.inbound(other));
        }
        assert_eq!(agreement.outbound(Role::Server).window_bits, ours.server_window_bits);
        assert_eq!(agreement.outbound(Role::Client).window_bits, theirs.client_window_bits);
    }
    let narrow = Compression { client_window_bits: 10, ..TAKEOVER };
    assert_eq!(parse_answer("permessage-deflate; client_max_window_bits=11", &narrow), None, "more than was offered");
    assert!(!DeflateAgreement::NONE.is_agreed());
    assert_eq!(parse_answer("", &TAKEOVER), Some(DeflateAgreement::NONE));
    for answer in [
        "x",
        "permessage-deflate; x",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; client_max_window_bits",
    ] {
        assert_eq!(parse_answer(answer, &TAKEOVER), None, "{answer}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    assert_eq!(Compression::default().check(), Ok(()));
    assert_eq!(Compression { level: 0, ..TAKEOVER }.check(), Err(CompressionError::Level(0)));
    assert_eq!(Compression { level: 10, ..TAKEOVER }.check(), Err(CompressionError::Level(10)));
    assert_eq!(Compression { server_window_bits: 7, ..TAKEOVER }.check(), Err(CompressionError::WindowBits(7)));
    assert_eq!(Compression { client_window_bits: 16, ..TAKEOVER }.check(), Err(CompressionError::WindowBits(16)));
}

/// Decompresses a message as its receiver would, with output in pieces of `room` bytes.
fn inflate(inflaters: &mut Inflaters, compressed: &[u8], window: &[u8], room: usize) -> Result<Vec<u8>, InflateError> {
    let mut inflater = inflaters.take(window)?;
    let mut message = Vec::new();
    let mut output = vec![0; room];
    let mut position = 0;
    loop {
        let step = inflater.step(&compressed[position..], &mut output)?;
        message.extend_from_slice(&output[..step.written]);
        position += step.read;
        if position == compressed.len() && !step.is_full {
            break;
        }
    }
    inflater.finish()?;
    inflaters.give_back(inflater);
    Ok(message)
}

fn payload_of(frame: &[u8]) -> (bool, &[u8]) {
    let start = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    (frame[0] & 0x40 != 0, &frame[start..])
}

/// Text that repeats itself, near and far.
fn text(random: &mut Random, bytes: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..50).map(|_| random.bytes(12).iter().map(|byte| b'a' + byte % 26).collect()).collect();
    let mut text = Vec::new();
    while text.len() < bytes {
        text.extend_from_slice(&words[random.below(words.len())]);
        text.push(b' ');
    }
    text.truncate(bytes);
    text
}

#[test]
fn what_is_compressed_comes_back_with_every_window_and_without() {
    let mut random = Random::from_environment();
    for context_takeover in [false, true] {
        for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            let direction = Direction { context_takeover, window_bits };
            let compression = Compression { threshold_bytes: 0, ..TAKEOVER };
            let mut deflater = Deflater::new(&compression);
            let (mut ours, mut theirs) = (Window::new(), Window::new());
            let mut inflaters = Inflaters::new();
            for bytes in [0, 1, 10, 100, 300, 300, 1_000, 5_000, 70_000, 40, 200_000, 2_000] {
                let message = text(&mut random, bytes);
                let mut frame = Vec::new();
                let compressed = deflater.append_message(&mut frame, Opcode::Text, &message, direction, &mut ours);
                let (rsv1, payload) = payload_of(&frame);
                assert_eq!(rsv1, compressed);
                assert!(payload.len() <= message.len(), "never longer");
                let came = if rsv1 {
                    inflate(&mut inflaters, payload, theirs.as_slice(), 1 + random.below(3_000)).expect("valid")
                } else {
                    payload.to_vec()
                };
                assert!(came == message, "{direction:?}, {bytes} bytes");
                if rsv1 {
                    theirs.slide(&message, direction.context_bytes());
                }
                assert_eq!(ours.as_slice(), theirs.as_slice());
                assert!(ours.heap_bytes() <= direction.context_bytes());
            }
        }
    }
}

#[test]
fn every_level_gives_the_same_message_back() {
    let mut random = Random::from_environment();
    for level in 1..=LEVEL_MAX {
        let direction = Direction { context_takeover: true, window_bits: *random.choose(&[8, 9, 12, 15]) };
        let mut deflater = Deflater::new(&Compression { threshold_bytes: 0, level, ..TAKEOVER });
        let (mut ours, mut theirs, mut inflaters) = (Window::new(), Window::new(), Inflaters::new());
        for message in [
            vec![0; 100_000],
            text(&mut random, 40_000),
            random.bytes(300),
            [random.bytes(20_000), vec![7; 20_000]].concat(),
            (0..=255).cycle().take(70_000).collect(),
            text(&mut random, 600),
        ] {
            let mut frame = Vec::new();
            deflater.append_message(&mut frame, Opcode::Binary, &message, direction, &mut ours);
            let (rsv1, payload) = payload_of(&frame);
            let came =
                if rsv1 { inflate(&mut inflaters, payload, theirs.as_slice(), 5000) } else { Ok(payload.to_vec()) };
            assert!(came.as_ref() == Ok(&message), "level {level}, {direction:?}, {} bytes", message.len());
            if rsv1 {
                theirs.slide(&message, direction.context_bytes());
            }
        }
    }
}

/// Our own decompressor has a large window whatever is agreed on, and would not notice.
#[test]
fn nothing_refers_back_beyond_the_window_that_was_agreed_on() {
    let mut random = Random::from_environment();
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        for (context_takeover, level) in [(false, 9), (true, 6), (true, 1)] {
            let direction = Direction { context_takeover, window_bits };
            let mut deflater = Deflater::new(&Compression { threshold_bytes: 0, level, ..TAKEOVER });
            let mut window = Window::new();
            let (mut furthest, window_bytes) = (0, 1 << window_bits);
            let words = random.bytes(30_000);
            for _ in 0..5 {
                // Words that come again at every distance.
                let message: Vec<u8> =
                    (0..2_000).flat_map(|_| words[random.below(window_bytes.min(24_000))..][..6].to_vec()).collect();
                let mut frame = Vec::new();
                deflater.append_message(&mut frame, Opcode::Binary, &message, direction, &mut window);
                if let (true, payload) = payload_of(&frame) {
                    furthest = furthest.max(largest_distance(&[payload, &TAIL].concat()));
                }
            }
            assert!(furthest <= window_bytes, "{direction:?}: {furthest} bytes back");
            assert!(window_bits < 10 || furthest > window_bytes / 8, "{direction:?}: only {furthest} bytes back");
        }
    }
}

#[test]
fn context_takeover_makes_the_second_of_two_alike_smaller() {
    let mut random = Random::from_environment();
    let message = text(&mut random, 2_000);
    let mut lengths = Vec::new();
    for context_takeover in [false, true] {
        let direction = Direction { context_takeover, window_bits: 15 };
        let mut deflater = Deflater::new(&TAKEOVER);
        let mut window = Window::new();
        let mut frame = Vec::new();
        for _ in 0..2 {
            frame.clear();
            assert!(deflater.append_message(&mut frame, Opcode::Text, &message, direction, &mut window));
        }
        lengths.push(frame.len());
    }
    assert!(lengths[1] * 10 < lengths[0], "{lengths:?}");
}

#[test]
fn what_is_short_or_does_not_shrink_goes_as_it_is() {
    let mut random = Random::from_environment();
    let direction = Direction { context_takeover: true, window_bits: 15 };
    let mut deflater = Deflater::new(&Compression { threshold_bytes: 100, ..TAKEOVER });
    let mut window = Window::new();
    for payload in [vec![b'a'; 99], random.bytes(5_000), random.bytes(100_000)] {
        let mut frame = Vec::new();
        assert!(!deflater.append_message(&mut frame, Opcode::Binary, &payload, direction, &mut window));
        assert_eq!(payload_of(&frame), (false, payload.as_slice()));
        assert!(window.is_empty(), "what is not compressed is not referred to (section 7.2.1)");
    }
    assert!(deflater.append_message(&mut Vec::new(), Opcode::Binary, &[b'a'; 100], direction, &mut window));
}

/// The examples of section 7.2.3: "Hello" in all the ways that DEFLATE knows.
#[test]
fn the_examples_of_the_rfc_are_understood() {
    let hello: &[&[u8]] = &[
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // Stored, not compressed.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // A block that says it is the last one, and an empty one behind it.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // Two blocks.
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    let mut inflaters = Inflaters::new();
    for compressed in hello {
        for room in [1, 2, 5, 6, 100] {
            let came = inflate(&mut inflaters, compressed, &[], room);
            assert_eq!(came.as_deref(), Ok(b"Hello".as_slice()), "{compressed:x?} with room for {room}");
        }
    }
    // The same message again, which is there already (section 7.2.3.2).
    let again = inflate(&mut inflaters, &[0xf2, 0x00, 0x11, 0x00, 0x00], b"Hello", 100);
    assert_eq!(again.as_deref(), Ok(b"Hello".as_slice()));
    assert_eq!(inflate(&mut inflaters, &[0xf2, 0x00, 0x11, 0x00, 0x00], b"", 100), Err(InflateError));
    // Behind a last block there is nothing to refer to, however much was said before.
    let finished = [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]; 3].concat();
    let thrice = inflate(&mut inflaters, &finished, b"Hello", 100);
    assert_eq!(thrice.as_deref(), Ok(b"HelloHelloHello".as_slice()));
    let beyond = [&finished[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    assert_eq!(inflate(&mut inflaters, &beyond, b"Hello", 100), Err(InflateError));
    assert_eq!(inflate(&mut inflaters, &[0x00], b"", 100).as_deref(), Ok(b"".as_slice()));
    assert_eq!(inflate(&mut inflaters, &[], b"", 100).as_deref(), Ok(b"".as_slice()));
}

#[test]
fn a_message_that_is_cut_or_broken_is_an_error() {
    let mut random = Random::from_environment();
    let mut deflater = Deflater::new(&TAKEOVER);
    let direction = Direction { context_takeover: false, window_bits: 15 };
    let message = text(&mut random, 3_000);
    let mut frame = Vec::new();
    assert!(deflater.append_message(&mut frame, Opcode::Text, &message, direction, &mut Window::new()));
    let compressed = payload_of(&frame).1;
    let mut inflaters = Inflaters::new();
    for cut in 1..compressed.len() - 1 {
        let came = inflate(&mut inflaters, &compressed[..cut], &[], 4096);
        assert_eq!(came, Err(InflateError), "cut at {cut} of {}", compressed.len());
    }
    // What ends the message would complete this one, with a character that nobody has sent.
    assert_eq!(inflate(&mut inflaters, &[0x6b], &[], 100), Err(InflateError));
    // Block type 3 is reserved.
    assert_eq!(inflate(&mut inflaters, &[0x06, 0x00], &[], 100), Err(InflateError));
}
