//! Random streams, proper and damaged, cut at random places.

use super::*;
use crate::protocol::random::Random;

/// A stream of proper messages and control frames, as a peer of the given role would send it.
pub(super) fn random_stream(random: &mut Random, receiver: Role) -> (Vec<u8>, Vec<Owned>) {
    let (mut stream, mut events) = (Vec::new(), Vec::new());
    let append = |stream: &mut Vec<u8>, random: &mut Random, opcode, fin, payload: &[u8]| {
        let start = stream.len();
        match receiver {
            Role::Server => append_masked_fragment(stream, opcode, fin, payload, random.mask()),
            Role::Client => {
                append_frame(stream, opcode, payload);
                if !fin {
                    stream[start] &= 0x7f;
                }
            }
        }
    };
    for _ in 0..1 + random.below(12) {
        let length = *random.choose(&[0, 1, 5, 60, 125, 126, 400, 3000, 70_000]);
        let length = random.below(length + 1);
        if random.below(4) == 0 {
            let payload = random.bytes(length.min(125));
            let (opcode, event) = match random.below(2) {
                0 => (Opcode::Ping, Owned::Ping(payload.clone())),
                _ => (Opcode::Pong, Owned::Pong(payload.clone())),
            };
            append(&mut stream, random, opcode, true, &payload);
            events.push(event);
            continue;
        }
        let (kind, payload) = if random.below(2) == 0 {
            (MessageKind::Binary, random.bytes(length))
        } else {
            let letters = ['a', 'ß', '€', '𝄞', '\u{7f}', '\u{10ffff}'];
            let text: String = (0..length / 3).map(|_| *random.choose(&letters)).collect();
            (MessageKind::Text, text.into_bytes())
        };
        let mut opcode = Opcode::from(kind);
        let mut rest = &payload[..];
        while random.below(3) == 0 {
            let (fragment, after) = rest.split_at(random.below(rest.len() + 1));
            append(&mut stream, random, opcode, false, fragment);
            (opcode, rest) = (Opcode::Continuation, after);
            if random.below(3) == 0 {
                append(&mut stream, random, Opcode::Ping, true, b"between");
                events.push(Owned::Ping(b"between".to_vec()));
            }
        }
        append(&mut stream, random, opcode, true, rest);
        events.push(Owned::Message(kind, payload));
    }
    (stream, events)
}

pub(super) fn random_ends(random: &mut Random, length: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (0..random.below(12)).map(|_| random.below(length + 1)).collect();
    ends.sort_unstable();
    ends
}

/// Lengths up to and around every border: of the forms of a length, and of what a partial state allocates.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=130).chain([511, 512, 513, 1023, 1024, 1025, 16_383, 16_384, 16_385, 65_534, 65_535, 65_536, 65_537])
}

#[test]
fn a_message_of_every_kind_and_length_comes_back_at_either_end() {
    let mut random = Random::from_environment();
    for length in lengths() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            let payload = match kind {
                MessageKind::Text => "äbc".chars().cycle().take(length).collect::<String>().into_bytes(),
                MessageKind::Binary => random.bytes(length),
            };
            for fragments in 1..=3 {
                let (mut as_client, mut as_server) = (Vec::new(), Vec::new());
                let mut rest = &payload[..];
                for fragment in 1..=fragments {
                    let last = fragment == fragments;
                    let opcode = if fragment == 1 { Opcode::from(kind) } else { Opcode::Continuation };
                    let bytes = if last { rest.len() } else { random.below(rest.len() + 1) };
                    let part = rest.split_off(..bytes).expect("not longer");
                    append_masked_fragment(&mut as_client, opcode, last, part, random.mask());
                    let mut header = [0; 10];
                    let header_bytes = encode_header(opcode, last, part.len(), &mut header);
                    as_server.extend_from_slice(&header[..header_bytes]);
                    as_server.extend_from_slice(part);
                }
                for (config, stream) in [(SERVER, as_client), (CLIENT, as_server)] {
                    let expected = (vec![Owned::Message(kind, payload.clone())], None);
                    let ends = random_ends(&mut random, stream.len());
                    assert!(feed(&config, &stream, &[]) == expected, "{kind:?}, {length} bytes in {fragments}");
                    assert!(feed(&config, &stream, &ends) == expected, "{kind:?}, {length} bytes cut at {ends:?}");
                }
            }
        }
    }
}

#[test]
fn a_control_frame_of_every_kind_and_length_comes_back_at_either_end() {
    let mut random = Random::from_environment();
    for length in 0..=125 {
        let reason = "é".repeat(length / 2) + &"x".repeat(length % 2);
        let code = *random.choose(&[1000, 1003, 1007, 1014, 3000, 4999]);
        let close = [&u16::to_be_bytes(code)[..], reason.as_bytes()].concat();
        let body = random.bytes(length);
        let mut frames = vec![
            (Opcode::Ping, body.clone(), Owned::Ping(body.clone())),
            (Opcode::Pong, body.clone(), Owned::Pong(body)),
        ];
        if close.len() <= 125 {
            frames.push((Opcode::Close, close, Owned::Close(Some(code), reason)));
        }
        for (opcode, body, event) in frames {
            let (mut as_client, mut as_server) = (Vec::new(), Vec::new());
            append_masked_frame(&mut as_client, opcode, &body, random.mask());
            append_frame(&mut as_server, opcode, &body);
            for (config, stream) in [(SERVER, as_client), (CLIENT, as_server)] {
                assert_eq!(feed_all_ways(&config, &stream), (vec![event.clone()], None));
            }
        }
    }
}

#[test]
fn random_streams_are_read_alike_however_they_are_cut() {
    let mut random = Random::from_environment();
    for _ in 0..150 {
        for config in [SERVER, CLIENT] {
            let (stream, events) = random_stream(&mut random, config.role);
            let expected = (events, None);
            assert_eq!(feed(&config, &stream, &[]), expected);
            assert_eq!(feed_bytewise(&config, &stream), expected);
            for _ in 0..8 {
                let ends = random_ends(&mut random, stream.len());
                assert_eq!(feed(&config, &stream, &ends), expected, "cut at {ends:?}");
            }
        }
    }
}

#[test]
fn damaged_streams_end_alike_however_they_are_cut() {
    let mut random = Random::from_environment();
    let mut errors = 0;
    for _ in 0..1500 {
        let config = DecoderConfig { fragments_max: 3, ..*random.choose(&[SERVER, CLIENT]) };
        let (mut stream, _) = random_stream(&mut random, config.role);
        stream.truncate(4000);
        for _ in 0..random.below(4) {
            let position = random.below(stream.len().min(200));
            stream[position] ^= 1 << random.below(8);
        }
        stream.truncate(random.below(stream.len() + 1));
        let expected = feed(&config, &stream, &[]);
        errors += usize::from(expected.1.is_some());
        assert_eq!(feed_bytewise(&config, &stream), expected);
        let ends = random_ends(&mut random, stream.len());
        assert_eq!(feed(&config, &stream, &ends), expected, "cut at {ends:?}");
    }
    assert!(errors > 100, "only {errors} streams were damaged so that it matters");
}

#[test]
fn noise_is_refused_or_waited_on_but_never_panics() {
    let mut random = Random::from_environment();
    for _ in 0..20_000 {
        let length = random.below(64);
        let mut stream = random.bytes(length);
        if let Some(first) = stream.first_mut() {
            *first &= 0x8f;
        }
        let config = *random.choose(&[SERVER, CLIENT]);
        assert_eq!(feed_bytewise(&config, &stream), feed(&config, &stream, &[]));
    }
}
