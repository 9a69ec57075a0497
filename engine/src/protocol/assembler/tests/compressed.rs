//! Compressed messages: whole and in pieces, however they are cut, and when they are not what they seem.

use super::pieces::feed_in_pieces;
use super::streams::random_ends;
use super::*;
use crate::protocol::deflate::{Compression, Deflater, Direction, Window};
use crate::protocol::frame::written_frame;
use crate::protocol::random::Random;

const KEPT: Direction = Direction { context_takeover: true, window_bits: 12 };
const FRESH: Direction = Direction { context_takeover: false, window_bits: 15 };

fn config(role: Role, direction: Direction) -> DecoderConfig {
    DecoderConfig { role, deflate: DeflateAgreement::new(direction, direction), ..SERVER }
}

/// A peer that compresses, and cuts what it sends into fragments.
struct Peer {
    receiver: Role,
    direction: Direction,
    deflater: Deflater,
    window: Window,
    stream: Vec<u8>,
}

impl Peer {
    fn new(receiver: Role, direction: Direction) -> Self {
        let deflater = Deflater::new(&Compression { threshold_bytes: 20, ..Compression::default() });
        Self { receiver, direction, deflater, window: Window::new(), stream: Vec::new() }
    }

    fn append(&mut self, opcode: Opcode, fin: bool, compressed: bool, payload: &[u8]) {
        let start = self.stream.len();
        match self.receiver {
            Role::Server => append_masked_fragment(&mut self.stream, opcode, fin, payload, MASK),
            Role::Client => append_frame(&mut self.stream, opcode, payload),
        }
        self.stream[start] &= if fin { 0xff } else { 0x7f };
        self.stream[start] |= if compressed { 0x40 } else { 0 };
    }

    /// Says a message in one frame, or in more that are cut at random.
    fn say(&mut self, random: &mut Random, kind: MessageKind, payload: &[u8]) {
        let mut frame = Vec::new();
        self.deflater.append_message(&mut frame, Opcode::from(kind), payload, self.direction, &mut self.window);
        let frame = written_frame(&frame).expect("a frame");
        let (mut opcode, mut compressed, mut rest) = (frame.opcode, frame.compressed, frame.payload);
        while random.below(3) == 0 {
            let (fragment, after) = rest.split_at(random.below(rest.len() + 1));
            self.append(opcode, false, compressed, fragment);
            (opcode, compressed, rest) = (Opcode::Continuation, false, after);
            if random.below(3) == 0 {
                self.append(Opcode::Ping, true, false, b"between");
            }
        }
        self.append(opcode, true, compressed, rest);
    }
}

fn random_text(random: &mut Random) -> String {
    let words = ["crore ", "ten million ", "schön ", "€ ", "𝄞 ", "0123456789 ", "{\"type\":\"message\"} "];
    let bytes_max = *random.choose(&[1, 30, 300, 3_000, 60_000]);
    let bytes = random.below(bytes_max);
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(words[random.below(words.len())]);
    }
    text
}

#[test]
fn every_message_comes_back_however_the_stream_is_cut() {
    let mut random = Random::from_environment();
    for round in 0..60 {
        for (role, direction) in [(Role::Server, FRESH), (Role::Server, KEPT), (Role::Client, KEPT)] {
            let mut peer = Peer::new(role, direction);
            let mut said = Vec::new();
            for _ in 0..1 + random.below(8) {
                if random.below(4) == 0 {
                    let bytes = random.bytes(1_000);
                    peer.say(&mut random, MessageKind::Binary, &bytes);
                    said.push(binary(&bytes));
                } else {
                    let message = random_text(&mut random);
                    peer.say(&mut random, MessageKind::Text, message.as_bytes());
                    said.push(text(&message));
                }
            }
            let config = config(role, direction);
            let without_pings = |(mut events, error): Outcome| {
                events.retain(|event| matches!(event, Owned::Message(..)));
                (events, error)
            };
            for _ in 0..4 {
                let ends = random_ends(&mut random, peer.stream.len());
                let whole = without_pings(feed(&config, &peer.stream, &ends));
                assert!(whole == (said.clone(), None), "round {round}, {direction:?}, cut at {ends:?}");
                let pieces = DecoderConfig { pieces_bytes_max: 1 << 20, ..config };
                let pieces = feed_in_pieces(&pieces, &peer.stream, &ends, |_| random.below(3) > 0);
                assert!(without_pings(pieces) == (said.clone(), None), "in pieces: round {round}, cut at {ends:?}");
            }
        }
    }
}

#[test]
fn nothing_is_kept_between_messages_but_a_window() {
    for (direction, bytes_max) in [(FRESH, 0), (KEPT, 4096 + 512)] {
        let config = config(Role::Server, direction);
        let mut peer = Peer::new(Role::Server, direction);
        let mut random = Random::from_environment();
        let message = "all alike ".repeat(10_000);
        peer.say(&mut random, MessageKind::Text, message.as_bytes());
        let mut pool = PartialPool::new();
        let mut decoder = Decoder::default();
        let mut input = Input::new(&mut peer.stream);
        while decoder.next(&config, &mut pool, &mut input).expect("proper").is_some() {}
        assert!(decoder.buffered_bytes() <= bytes_max, "{} bytes", decoder.buffered_bytes());
        assert_eq!(decoder.is_idle(), bytes_max == 0);
        decoder.release(&mut pool);
        assert!(pool.heap_bytes() < 128 * 1024);
    }
}

#[test]
fn a_bomb_ends_at_the_limit_and_not_in_memory() {
    let limit = 100_000;
    let mut random = Random::from_environment();
    for (zeros, fits) in [(limit, true), (limit + 1, false), (100 << 20, false)] {
        let mut peer = Peer::new(Role::Server, FRESH);
        peer.say(&mut random, MessageKind::Binary, &vec![0; zeros]);
        let config = DecoderConfig { message_bytes_max: limit, ..config(Role::Server, FRESH) };
        let mut pool = PartialPool::new();
        let mut decoder = Decoder::default();
        let mut input = Input::new(&mut peer.stream);
        let outcome = loop {
            match decoder.next(&config, &mut pool, &mut input) {
                Ok(Some(Event::Message { payload, .. })) => break Ok(payload.len()),
                Ok(Some(_)) => {}
                Ok(None) => panic!("the message is all there"),
                Err(error) => break Err(error),
            }
        };
        let expected = if fits { Ok(limit) } else { Err(ProtocolError::MessageTooBig { bytes_max: limit }) };
        assert_eq!(outcome, expected, "{zeros} zeros");
        assert!(decoder.buffered_bytes() <= limit + 64 * 1024);
    }
}

#[test]
fn what_was_not_agreed_on_or_is_broken_is_an_error() {
    let agreed = config(Role::Server, FRESH);
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (config, frames, outcome) in [
        (&SERVER, &[(Opcode::Text, true, true, &hello[..])][..], Err(ProtocolError::ReservedBit)),
        (&agreed, &[(Opcode::Text, true, true, &hello[..])], Ok(())),
        (&agreed, &[(Opcode::Text, true, true, &[])], Ok(())),
        (&agreed, &[(Opcode::Text, true, true, &hello[..4])], Err(ProtocolError::InvalidDeflate)),
        (&agreed, &[(Opcode::Text, true, true, &[0xff; 9])], Err(ProtocolError::InvalidDeflate)),
        // Only the first frame of a message says that it is compressed (section 6).
        (
            &agreed,
            &[(Opcode::Text, false, true, &hello[..3]), (Opcode::Continuation, true, false, &hello[3..])],
            Ok(()),
        ),
        (
            &agreed,
            &[(Opcode::Text, false, true, &hello[..3]), (Opcode::Continuation, true, true, &hello[3..])],
            Err(ProtocolError::ReservedBit),
        ),
        (&agreed, &[(Opcode::Ping, true, true, b"")], Err(ProtocolError::ReservedBit)),
        // A stored block with a byte that is no UTF-8: nobody looks before the message is complete.
        (&agreed, &[(Opcode::Text, false, true, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff])], Ok(())),
        (
            &agreed,
            &[
                (Opcode::Text, false, true, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff]),
                (Opcode::Continuation, true, false, &[0x00]),
            ],
            Err(ProtocolError::InvalidUtf8),
        ),
        (
            &agreed,
            &[(Opcode::Text, true, true, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xc3, 0x00])],
            Err(ProtocolError::InvalidUtf8),
        ),
    ] {
        let mut peer = Peer::new(Role::Server, FRESH);
        for &(opcode, fin, compressed, payload) in frames {
            peer.append(opcode, fin, compressed, payload);
        }
        let (_, error) = feed(config, &peer.stream, &[]);
        assert_eq!(error, outcome.err(), "{frames:x?}");
        let (_, error) = feed_bytewise(config, &peer.stream);
        assert_eq!(error, outcome.err(), "byte by byte: {frames:x?}");
    }
}

#[test]
fn half_a_message_holds_what_has_come_of_it_and_no_more() {
    for direction in [FRESH, KEPT] {
        let config = config(Role::Server, direction);
        let mut peer = Peer::new(Role::Server, direction);
        peer.append(Opcode::Binary, false, true, &[]);
        let nothing_yet = peer.stream.clone();
        let mut frame = Vec::new();
        let zeros = vec![0; SERVER.message_bytes_max];
        peer.deflater.append_message(&mut frame, Opcode::Binary, &zeros, direction, &mut peer.window);
        let bomb = written_frame(&frame).expect("a frame").payload;
        assert!(bomb.len() < 2_000);
        peer.append(Opcode::Continuation, true, false, bomb);
        peer.stream.pop();
        for mut sent in [nothing_yet, peer.stream] {
            let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
            let sent_bytes = sent.len();
            let mut input = Input::new(&mut sent);
            assert_eq!(decoder.next(&config, &mut pool, &mut input), Ok(None), "more is to come");
            let held = decoder.buffered_bytes();
            assert!(held <= 1024 + 4 * sent_bytes, "{held} bytes are held for {sent_bytes}");
        }
    }
}

#[test]
fn no_connection_can_refer_to_what_another_has_said() {
    let config = config(Role::Server, KEPT);
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let hello_again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let say = |decoder: &mut Decoder, pool: &mut PartialPool, payload: &[u8]| {
        let mut peer = Peer::new(Role::Server, KEPT);
        peer.append(Opcode::Text, true, true, payload);
        let mut input = Input::new(&mut peer.stream);
        decoder.next(&config, pool, &mut input).map(|event| event.map(Owned::from))
    };
    let (mut one, mut other, mut pool) = (Decoder::default(), Decoder::default(), PartialPool::new());
    assert_eq!(say(&mut one, &mut pool, &hello), Ok(Some(text("Hello"))));
    assert_eq!(say(&mut one, &mut pool, &hello_again), Ok(Some(text("Hello"))));
    one.release(&mut pool);
    assert_eq!(say(&mut other, &mut pool, &hello_again), Err(ProtocolError::InvalidDeflate));
}
