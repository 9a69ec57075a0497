//! However a stream is cut, it gives the same events, and no more memory is held than the limits say.

use crore_engine::protocol::deflate::{DeflateAgreement, Direction};
use crore_engine::protocol::{DecoderConfig, PartialPool, ProtocolError};

use crate::stream::{Case, Owned, Receiver, pieces};

/// Limits on fragments, by the input's choice.
const FRAGMENTS_MAX: [u32; 4] = [1, 2, 5, u32::MAX];

/// Bytes of a stream that is also fed byte by byte.
const BYTEWISE_BYTES_MAX: usize = 2048;

/// The input is a [`Case`]. Of its choice bits 0 and 1 are the limit on fragments, with bit 2 messages may be
/// taken in pieces, up to three times as large, and with bit 3 they may be compressed.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let bit = |bit: u8| case.choice >> bit & 1 != 0;
    let direction = Direction { context_takeover: bit(0), window_bits: 10 };
    let config = DecoderConfig {
        fragments_max: FRAGMENTS_MAX[usize::from(case.choice & 3)],
        pieces_bytes_max: if bit(2) { 3 * case.config.message_bytes_max } else { 0 },
        deflate: if bit(3) { DeflateAgreement::new(direction, direction) } else { DeflateAgreement::NONE },
        ..case.config
    };
    // One pool for all, so that what one stream leaves in it would be seen in the next.
    let mut pool = PartialPool::new();
    let whole = feed(&config, &mut pool, &case.stream, 0);
    assert_same(&config, &feed(&config, &mut pool, &case.stream, case.seed), &whole);
    if case.stream.len() <= BYTEWISE_BYTES_MAX {
        assert_same(&config, &feed(&config, &mut pool, &case.stream, 1), &whole);
    }
    for event in &whole.0 {
        match event {
            Owned::Message(..) => {}
            Owned::Ping(payload) | Owned::Pong(payload) => assert!(payload.len() <= 125),
            Owned::Close(_, reason) => assert!(reason.len() <= 123),
        }
    }
}

type Outcome = (Vec<Owned>, Option<ProtocolError>);

/// The same events and the same error. Only of a compressed message that is wrong in more than one way, the cut
/// may decide which way is seen first: what comes in one piece is decompressed in one step.
fn assert_same(config: &DecoderConfig, cut: &Outcome, whole: &Outcome) {
    let content = |error: &Option<ProtocolError>| {
        use ProtocolError::{InvalidDeflate, InvalidUtf8, MessageTooBig};
        matches!(error, Some(InvalidDeflate | InvalidUtf8 | MessageTooBig { .. }))
    };
    assert_eq!(cut.0, whole.0);
    let either = config.deflate.is_agreed() && content(&cut.1) && content(&whole.1);
    assert!(either || cut.1 == whole.1, "{:?} in pieces, {:?} in one", cut.1, whole.1);
}

fn feed(config: &DecoderConfig, pool: &mut PartialPool, stream: &[u8], seed: u16) -> Outcome {
    let mut receiver = Receiver::new(*config, pool);
    let mut stream = stream.to_vec();
    for piece in pieces(stream.len(), seed) {
        receiver.receive(&mut stream[piece]);
        if receiver.is_over() {
            break;
        }
    }
    receiver.end()
}
