//! However a stream is cut, it gives the same events, and no more memory is held than the limits say.

use crore_engine::protocol::{DecoderConfig, PartialPool, ProtocolError};

use crate::stream::{Case, Owned, Receiver, pieces};

/// Limits on fragments, by the input's choice.
const FRAGMENTS_MAX: [u32; 4] = [1, 2, 5, u32::MAX];

/// Bytes of a stream that is also fed byte by byte.
const BYTEWISE_BYTES_MAX: usize = 2048;

/// The input is a [`Case`], whose choice is the limit on fragments.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let config = DecoderConfig { fragments_max: FRAGMENTS_MAX[usize::from(case.choice)], ..case.config };
    // One pool for all, so that what one stream leaves in it would be seen in the next.
    let mut pool = PartialPool::new();
    let whole = feed(&config, &mut pool, &case.stream, 0);
    assert_eq!(feed(&config, &mut pool, &case.stream, case.seed), whole, "seed {}", case.seed);
    if case.stream.len() <= BYTEWISE_BYTES_MAX {
        assert_eq!(feed(&config, &mut pool, &case.stream, 1), whole, "byte by byte");
    }
    for event in &whole.0 {
        match event {
            Owned::Message(_, payload) => assert!(payload.len() <= config.message_bytes_max),
            Owned::Ping(payload) | Owned::Pong(payload) => assert!(payload.len() <= 125),
            Owned::Close(_, reason) => assert!(reason.len() <= 123),
        }
    }
}

fn feed(
    config: &DecoderConfig,
    pool: &mut PartialPool,
    stream: &[u8],
    seed: u16,
) -> (Vec<Owned>, Option<ProtocolError>) {
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
