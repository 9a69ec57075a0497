//! Messages that are handed out in pieces.

use super::streams::{random_ends, random_stream};
use super::*;
use crate::protocol::random::Random;

const IN_PIECES: DecoderConfig = DecoderConfig { message_bytes_max: 100, pieces_bytes_max: 1 << 20, ..SERVER };

/// Takes in pieces what can be had in pieces, if `wanted` says so, and joins it.
pub(super) fn feed_in_pieces(
    config: &DecoderConfig,
    stream: &[u8],
    ends: &[usize],
    mut wanted: impl FnMut(MessageStart) -> bool,
) -> Outcome {
    let mut pool = PartialPool::new();
    let mut decoder = Decoder::default();
    let (mut events, mut joined, mut start) = (Vec::new(), None::<Vec<u8>>, 0);
    for &end in ends.iter().chain([&stream.len()]) {
        let mut part = stream[start..end].to_vec();
        start = end;
        let mut input = Input::new(&mut part);
        loop {
            match decoder.next(config, &mut pool, &mut input) {
                Ok(Some(Event::Begin(start))) => {
                    if wanted(start) {
                        decoder.deliver_in_pieces();
                        joined = Some(Vec::new());
                    }
                }
                Ok(Some(Event::Piece { kind, bytes, last })) => {
                    assert!(last || !bytes.is_empty(), "a piece without bytes");
                    let message = joined.as_mut().expect("a message has begun");
                    message.extend_from_slice(bytes);
                    if last {
                        events.push(Owned::Message(kind, joined.take().expect("it is there")));
                    } else {
                        let kept = if config.deflate.is_agreed() { 64 * 1024 } else { 512 };
                        assert!(decoder.buffered_bytes() < kept, "nothing of a message in pieces is kept");
                    }
                }
                Ok(Some(event)) => events.push(Owned::from(event)),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

#[test]
fn pieces_join_to_the_message_that_comes_whole() {
    let mut random = Random::from_environment();
    for _ in 0..150 {
        for config in [SERVER, CLIENT] {
            let (stream, events) = random_stream(&mut random, config.role);
            let config = DecoderConfig { pieces_bytes_max: 1 << 20, ..config };
            for _ in 0..4 {
                let ends = random_ends(&mut random, stream.len());
                let outcome = feed_in_pieces(&config, &stream, &ends, |_| random.below(3) > 0);
                assert_eq!(outcome, (events.clone(), None), "cut at {ends:?}");
            }
        }
    }
}

#[test]
fn damaged_streams_end_alike_in_pieces_and_whole() {
    let mut random = Random::from_environment();
    for _ in 0..1500 {
        let config = DecoderConfig { fragments_max: 3, ..*random.choose(&[SERVER, CLIENT]) };
        let (mut stream, _) = random_stream(&mut random, config.role);
        stream.truncate(4000);
        for _ in 0..random.below(4) {
            let position = random.below(stream.len().min(200));
            stream[position] ^= 1 << random.below(8);
        }
        let expected = feed(&config, &stream, &[]);
        let config = DecoderConfig { pieces_bytes_max: config.message_bytes_max, ..config };
        let ends = random_ends(&mut random, stream.len());
        assert_eq!(feed_in_pieces(&config, &stream, &ends, |_| true), expected, "cut at {ends:?}");
    }
}

#[test]
fn a_start_tells_what_its_frame_does() {
    let mut starts = Vec::new();
    let stream = [
        masked(Opcode::Text, true, b"whole where it lies"),
        masked(Opcode::Text, false, b"one"),
        masked(Opcode::Continuation, true, b"two"),
        masked(Opcode::Binary, true, &[7; 300]),
    ]
    .concat();
    let events = vec![text("whole where it lies"), text("onetwo"), binary(&[7; 300])];
    // The last one would be cut by nothing, but is too large to come whole.
    let outcome = feed_in_pieces(&IN_PIECES, &stream, &[], |start| {
        starts.push((start.kind, start.frame_bytes, start.only_frame));
        true
    });
    assert_eq!(outcome, (events, None));
    assert_eq!(starts, [(MessageKind::Text, 3, false), (MessageKind::Binary, 300, true)]);
}

#[test]
fn each_way_has_its_own_limit() {
    let too_big = |bytes_max| (vec![], Some(ProtocolError::MessageTooBig { bytes_max }));
    // Judged by the header alone, whichever way it is to go.
    let mut header = masked(Opcode::Binary, true, &[1; 101]);
    header.truncate(6);
    assert_eq!(feed_in_pieces(&IN_PIECES, &header, &[], |_| false), too_big(100));
    assert_eq!(feed_in_pieces(&IN_PIECES, &header, &[], |_| true), (vec![], None));
    let second = [&masked(Opcode::Binary, false, &[1; 60])[..], &masked(Opcode::Continuation, true, &[1; 41])].concat();
    assert_eq!(feed_in_pieces(&IN_PIECES, &second[..68], &[], |_| false), too_big(100));
    assert_eq!(feed_in_pieces(&IN_PIECES, &second, &[], |_| true), (vec![binary(&[1; 101])], None));

    let larger = DecoderConfig { pieces_bytes_max: 200, ..IN_PIECES };
    let fits = [masked(Opcode::Binary, false, &[1; 150]), masked(Opcode::Continuation, true, &[1; 50])].concat();
    assert_eq!(feed_in_pieces(&larger, &fits, &[], |_| true), (vec![binary(&[1; 200])], None));
    let over = [&masked(Opcode::Binary, false, &[1; 150])[..], &[0x80, 0x80 | 51]].concat();
    assert_eq!(feed_in_pieces(&larger, &over, &[], |_| true), too_big(200));
    assert_eq!(feed_in_pieces(&larger, b"\x82\xfe\0\xc9", &[], |_| true), too_big(200));
}

#[test]
fn text_in_pieces_is_refused_at_the_byte_that_is_not_utf8() {
    let stream = [
        masked(Opcode::Text, false, "grü".as_bytes()),
        masked(Opcode::Ping, true, b"?"),
        masked(Opcode::Continuation, false, b"\xe2\x82"),
        masked(Opcode::Continuation, false, b"(more would follow"),
    ]
    .concat();
    let until = stream.len() - b"more would follow".len();
    let outcome = feed_in_pieces(&IN_PIECES, &stream[..until], &[], |_| true);
    assert_eq!(outcome, (vec![Owned::Ping(b"?".to_vec())], Some(ProtocolError::InvalidUtf8)));
    let unfinished = [masked(Opcode::Text, false, b"\xe2\x82"), masked(Opcode::Continuation, true, b"")].concat();
    assert_eq!(feed_in_pieces(&IN_PIECES, &unfinished, &[], |_| true).1, Some(ProtocolError::InvalidUtf8));
}
