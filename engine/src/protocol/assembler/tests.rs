use super::*;
use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::protocol::frame::{
    append_frame, append_masked_fragment, append_masked_frame, encode_header, server_header_bytes,
};

mod compressed;
mod pieces;
mod streams;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SERVER: DecoderConfig = DecoderConfig {
    role: Role::Server,
    message_bytes_max: 1 << 20,
    pieces_bytes_max: 0,
    fragments_max: 1 << 17,
    deflate: DeflateAgreement::NONE,
};
const CLIENT: DecoderConfig = DecoderConfig { role: Role::Client, ..SERVER };

/// An event that owns its bytes, and does not say where they lay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload, .. } => Self::Message(kind, payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => Self::Close(close.code, close.reason.to_owned()),
            Event::Begin(_) | Event::Piece { .. } => panic!("in pieces without being asked: {event:?}"),
        }
    }
}

fn text(payload: &str) -> Owned {
    Owned::Message(MessageKind::Text, payload.as_bytes().to_vec())
}

fn binary(payload: &[u8]) -> Owned {
    Owned::Message(MessageKind::Binary, payload.to_vec())
}

/// All that came of a stream: the events, and the error if one ended it.
type Outcome = (Vec<Owned>, Option<ProtocolError>);

/// Feeds the stream in pieces that end at the given positions, and at its end.
fn feed(config: &DecoderConfig, stream: &[u8], ends: &[usize]) -> Outcome {
    let mut pool = PartialPool::new();
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    let mut start = 0;
    for &end in ends.iter().chain([&stream.len()]) {
        let mut piece = stream[start..end].to_vec();
        start = end;
        let mut input = Input::new(&mut piece);
        loop {
            match decoder.next(config, &mut pool, &mut input) {
                Ok(Some(event)) => events.push(Owned::from(event)),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert_eq!(input.remaining(), 0);
        assert!(decoder.buffered_bytes() > 0 || decoder.is_idle());
    }
    (events, None)
}

fn feed_bytewise(config: &DecoderConfig, stream: &[u8]) -> Outcome {
    let ends: Vec<usize> = (0..stream.len()).collect();
    feed(config, stream, &ends)
}

/// Feeds the stream as a whole, byte by byte, and cut in two at each position (in long streams at
/// some), and finds the same every time.
fn feed_all_ways(config: &DecoderConfig, stream: &[u8]) -> Outcome {
    let whole = feed(config, stream, &[]);
    assert_eq!(feed_bytewise(config, stream), whole, "byte by byte");
    for split in (0..stream.len()).step_by(1 + stream.len() / 256) {
        assert_eq!(feed(config, stream, &[split]), whole, "cut at {split}");
    }
    whole
}

fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_masked_fragment(&mut out, opcode, fin, payload, MASK);
    out
}

fn refused(stream: &[u8]) -> ProtocolError {
    let (_, error) = feed_all_ways(&SERVER, stream);
    let error = error.expect("the stream breaks a rule");
    let bytewise = (0..=stream.len()).find(|&end| feed(&SERVER, &stream[..end], &[]).1.is_some());
    assert_eq!(bytewise, Some(stream.len()), "the last byte is the first wrong one");
    error
}

#[test]
fn the_examples_of_the_rfc() {
    let server = |stream: &[u8]| feed_all_ways(&SERVER, stream);
    let client = |stream: &[u8]| feed_all_ways(&CLIENT, stream);
    let hello = || (vec![text("Hello")], None);
    assert_eq!(client(b"\x81\x05Hello"), hello());
    assert_eq!(server(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), hello());
    assert_eq!(client(b"\x01\x03Hel\x80\x02lo"), hello());
    assert_eq!(client(b"\x89\x05Hello"), (vec![Owned::Ping(b"Hello".to_vec())], None));
    let pong = (vec![Owned::Pong(b"Hello".to_vec())], None);
    assert_eq!(server(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), pong);
    for length in [256, 65_536] {
        let mut stream = Vec::new();
        append_frame(&mut stream, Opcode::Binary, &vec![7; length]);
        assert_eq!(client(&stream), (vec![binary(&vec![7; length])], None));
    }
}

#[test]
fn a_whole_message_lies_in_the_input_and_can_be_answered_there() {
    let mut stream = Vec::new();
    append_masked_frame(&mut stream, Opcode::Text, b"first", MASK);
    append_masked_frame(&mut stream, Opcode::Ping, b"?", MASK);
    append_masked_frame(&mut stream, Opcode::Binary, &[9; 300], MASK);
    let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
    let (mut input, mut found) = (Input::new(&mut stream), Vec::new());
    while let Some(event) = decoder.next(&SERVER, &mut pool, &mut input).expect("valid") {
        if let Event::Message { kind, payload, at: Some(at) } = event {
            found.push((Opcode::from(kind), at, payload.len()));
            assert!(decoder.is_idle());
            assert_eq!(input.position(), at + found.last().map_or(0, |&(_, _, length)| length));
        }
    }
    let mut answers = Vec::new();
    for (opcode, at, length) in found {
        let start = at - server_header_bytes(length);
        encode_header(opcode, true, length, &mut stream[start..at]);
        answers.extend_from_slice(&stream[start..at + length]);
    }
    let (events, error) = feed(&CLIENT, &answers, &[]);
    assert_eq!((events, error), (vec![text("first"), binary(&[9; 300])], None));
    assert_eq!(pool.heap_bytes(), 0, "nothing was cut, so nothing was allocated");
}

#[test]
fn fragments_join_and_control_frames_pass_between_them() {
    let stream = [
        masked(Opcode::Text, false, "grü".as_bytes()),
        masked(Opcode::Ping, true, b"one"),
        masked(Opcode::Continuation, false, b""),
        masked(Opcode::Pong, true, b""),
        masked(Opcode::Continuation, false, &[b'x'; 700]),
        masked(Opcode::Continuation, true, "ße".as_bytes()),
        masked(Opcode::Binary, false, &[0xff]),
        masked(Opcode::Continuation, true, b""),
        masked(Opcode::Text, true, b""),
        masked(Opcode::Close, true, b"\x03\xe8bye"),
    ]
    .concat();
    let expected = vec![
        Owned::Ping(b"one".to_vec()),
        Owned::Pong(Vec::new()),
        text(&format!("grü{}ße", "x".repeat(700))),
        binary(&[0xff]),
        text(""),
        Owned::Close(Some(1000), "bye".to_owned()),
    ];
    assert_eq!(feed_all_ways(&SERVER, &stream), (expected, None));
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let euro = "€".as_bytes();
    let stream = [
        masked(Opcode::Text, false, &euro[..1]),
        masked(Opcode::Continuation, false, &euro[1..2]),
        masked(Opcode::Continuation, true, &euro[2..]),
    ]
    .concat();
    assert_eq!(feed_all_ways(&SERVER, &stream), (vec![text("€")], None));
}

#[test]
fn a_breach_is_refused_at_its_first_byte() {
    assert_eq!(refused(b"\x83"), ProtocolError::ReservedOpcode(3));
    assert_eq!(refused(b"\xc1"), ProtocolError::ReservedBit);
    assert_eq!(refused(b"\x09"), ProtocolError::ControlFragmented);
    assert_eq!(refused(b"\x80"), ProtocolError::ContinuationWithoutStart);
    assert_eq!(refused(b"\x81\x01"), ProtocolError::Unmasked);
    assert_eq!(refused(b"\x89\xfe"), ProtocolError::ControlTooLong);
    assert_eq!(refused(b"\x81\xfe\0\x05"), ProtocolError::LengthNotMinimal);
    assert_eq!(refused(b"\x82\xff\x80"), ProtocolError::LengthOver63Bits);
    let too_big = ProtocolError::MessageTooBig { bytes_max: 1 << 20 };
    assert_eq!(refused(b"\x82\xff\0\0\0\0\0\x10\0\x01"), too_big);

    let started = masked(Opcode::Text, false, b"a");
    let with_ping = [&started[..], &masked(Opcode::Ping, true, b"?")].concat();
    for start in [started, with_ping] {
        let then = |byte: u8| [&start[..], &[byte]].concat();
        assert_eq!(refused(&then(0x81)), ProtocolError::MessageInsideMessage);
        assert_eq!(refused(&then(0x02)), ProtocolError::MessageInsideMessage);
        assert_eq!(refused(&then(0x83)), ProtocolError::ReservedOpcode(3));
    }
    let message = masked(Opcode::Text, true, b"whole");
    assert_eq!(refused(&[&message[..], b"\x00"].concat()), ProtocolError::ContinuationWithoutStart);

    let masked_to_client = feed_all_ways(&CLIENT, b"\x81\x80");
    assert_eq!(masked_to_client, (vec![], Some(ProtocolError::Masked)));
}

#[test]
fn text_is_refused_at_the_byte_that_is_not_utf8() {
    for wrong in [b"ab\xff".as_slice(), b"\xc3\xa9\xe0\x80", b"\xed\xa0", b"\xf4\x90", b"\xc0"] {
        // The frame announces more than comes, so that only the bytes themselves can tell.
        let whole = masked(Opcode::Text, true, &[wrong, b"rest"].concat());
        assert_eq!(refused(&whole[..6 + wrong.len()]), ProtocolError::InvalidUtf8);
        let (events, error) = feed_all_ways(&SERVER, &whole);
        assert_eq!((events, error), (vec![], Some(ProtocolError::InvalidUtf8)));
    }
    let cut = masked(Opcode::Text, true, b"caf\xc3");
    assert_eq!(refused(&cut), ProtocolError::InvalidUtf8);
    let fragments = [masked(Opcode::Text, false, b"\xe2\x82"), masked(Opcode::Continuation, true, b"")];
    assert_eq!(feed_all_ways(&SERVER, &fragments.concat()).1, Some(ProtocolError::InvalidUtf8));
    let long = masked(Opcode::Text, true, &[&[b'x'; 5000][..], b"\xff"].concat());
    assert_eq!(feed_all_ways(&SERVER, &long).1, Some(ProtocolError::InvalidUtf8));
    let binary_frame = masked(Opcode::Binary, true, b"\xff\xfe");
    assert_eq!(feed_all_ways(&SERVER, &binary_frame), (vec![binary(b"\xff\xfe")], None));
}

#[test]
fn a_close_frame_is_judged() {
    let close = |body: &[u8]| feed_all_ways(&SERVER, &masked(Opcode::Close, true, body));
    assert_eq!(close(b""), (vec![Owned::Close(None, String::new())], None));
    assert_eq!(close(b"\x03"), (vec![], Some(ProtocolError::CloseTruncated)));
    assert_eq!(close(b"\x03\xed"), (vec![], Some(ProtocolError::CloseCodeInvalid(1005))));
    assert_eq!(close(b"\x03\xe8\xff"), (vec![], Some(ProtocolError::InvalidUtf8)));
}

#[test]
fn a_message_is_bounded_over_all_its_fragments() {
    let config = DecoderConfig { message_bytes_max: 10, ..SERVER };
    let too_big = Some(ProtocolError::MessageTooBig { bytes_max: 10 });
    let fits = [
        masked(Opcode::Binary, true, &[1; 10]),
        masked(Opcode::Binary, false, &[1; 4]),
        masked(Opcode::Ping, true, &[1; 100]),
        masked(Opcode::Continuation, true, &[1; 6]),
    ]
    .concat();
    let expected = vec![binary(&[1; 10]), Owned::Ping(vec![1; 100]), binary(&[1; 10])];
    assert_eq!(feed_all_ways(&config, &fits), (expected, None));
    assert_eq!(feed_all_ways(&config, b"\x82\x8b"), (vec![], too_big));
    let second = [&masked(Opcode::Binary, false, &[1; 4])[..], b"\x80\x87"].concat();
    assert_eq!(feed_all_ways(&config, &second), (vec![], too_big));
}

#[test]
fn fragments_are_counted_anew_for_each_message() {
    let config = DecoderConfig { fragments_max: 3, ..SERVER };
    let start = masked(Opcode::Binary, false, b"a");
    let next = masked(Opcode::Continuation, false, b"b");
    let end = masked(Opcode::Continuation, true, b"c");
    let message = [&start[..], &next, &end].concat();
    let twice = message.repeat(2);
    assert_eq!(feed_all_ways(&config, &twice), (vec![binary(b"abc"); 2], None));
    let four = [&start[..], &next, &next, &end].concat();
    let error = ProtocolError::TooManyFragments { fragments_max: 3 };
    assert_eq!(feed_all_ways(&config, &four), (vec![], Some(error)));
}

#[test]
fn more_than_65536_fragments_are_a_message() {
    let mut stream = masked(Opcode::Binary, false, b"");
    for _ in 0..65_536 {
        append_masked_fragment(&mut stream, Opcode::Continuation, false, b"z", MASK);
    }
    append_masked_fragment(&mut stream, Opcode::Continuation, true, b"", MASK);
    assert_eq!(feed(&SERVER, &stream, &[]), (vec![binary(&[b'z'; 65_536])], None));
}

#[test]
fn memory_follows_what_has_come_and_not_what_is_announced() {
    let config = DecoderConfig { message_bytes_max: 1 << 30, ..SERVER };
    let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
    let mut header = [0; 14];
    encode_header(Opcode::Binary, true, 1 << 30, &mut header);
    header[1] |= 0x80;
    assert_eq!(decoder.next(&config, &mut pool, &mut Input::new(&mut header)), Ok(None));
    assert!(decoder.buffered_bytes() < 1024);
    let mut sent = 0;
    for _ in 0..100 {
        let mut piece = [1; 1000];
        sent += piece.len();
        assert_eq!(decoder.next(&config, &mut pool, &mut Input::new(&mut piece)), Ok(None));
        let bytes_max = (4 * sent).min((2 * sent).max(4 * RECEIVE_BUFFER_BYTES));
        assert!(decoder.buffered_bytes() <= bytes_max + 1024);
    }
    decoder.release(&mut pool);
    assert!(decoder.is_idle());
    assert!(pool.heap_bytes() < 1024, "a large buffer is freed, not pooled");
}

#[test]
fn a_message_in_parts_gives_its_buffer_back_at_the_next_call() {
    let (mut decoder, mut pool) = (Decoder::default(), PartialPool::new());
    let frame = masked(Opcode::Text, true, b"in two parts");
    let (first, second) = frame.split_at(9);
    let (mut first, mut second, mut again) = (first.to_vec(), second.to_vec(), first.to_vec());
    assert_eq!(decoder.next(&SERVER, &mut pool, &mut Input::new(&mut first)), Ok(None));
    assert!(!decoder.is_idle());
    let mut input = Input::new(&mut second);
    let event = decoder.next(&SERVER, &mut pool, &mut input).expect("valid");
    assert!(matches!(event, Some(Event::Message { at: None, .. })));
    assert_eq!(decoder.next(&SERVER, &mut pool, &mut input), Ok(None));
    assert!(decoder.is_idle());
    let pooled = pool.heap_bytes();
    assert!(pooled > 0);
    assert_eq!(decoder.next(&SERVER, &mut pool, &mut Input::new(&mut again)), Ok(None));
    assert_eq!(pool.heap_bytes(), 0, "the pooled state is used again");
    assert_eq!(decoder.buffered_bytes(), pooled);
}

#[test]
fn the_pool_is_bounded() {
    let mut pool = PartialPool::new();
    let mut decoders: Vec<Decoder> = Vec::new();
    for _ in 0..2 * POOLED_PARTIALS_MAX {
        let mut decoder = Decoder::default();
        let mut part = [&[0x82, 0xfe, 0x40, 0, 0, 0, 0, 0][..], &[0; 16_000]].concat();
        assert_eq!(decoder.next(&SERVER, &mut pool, &mut Input::new(&mut part)), Ok(None));
        decoders.push(decoder);
    }
    decoders.iter_mut().for_each(|decoder| decoder.release(&mut pool));
    assert!(pool.heap_bytes() <= POOLED_PARTIALS_MAX * (POOLED_PAYLOAD_BYTES_MAX + 512));
    assert!(pool.heap_bytes() >= POOLED_PARTIALS_MAX * 16_000);
}
