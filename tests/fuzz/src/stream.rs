//! A stream of frames out of a fuzzer's bytes, the pieces that it comes in, and the events that it gives.

use std::ops::Range;

use crore_engine::limits::RECEIVE_BUFFER_BYTES;
use crore_engine::protocol::assembler::POOLED_PAYLOAD_BYTES_MAX;
use crore_engine::protocol::deflate::DeflateAgreement;
use crore_engine::protocol::frame::{HEADER_BYTES_MAX, encode_header, server_header_bytes};
use crore_engine::protocol::mask::apply_mask;
use crore_engine::protocol::{
    CloseFrame, Decoder, DecoderConfig, Event, Input, MessageKind, Opcode, PartialPool, ProtocolError, Role,
};

/// Limits on messages, in bytes: the longest control frame's, so that no other reader may refuse that for its
/// length; one within 16 bits; one beyond them.
const MESSAGE_BYTES_MAX: [usize; 3] = [125, 1000, 70_000];

/// Lengths of payloads that are repeated instead of spelled out: around every border that there is.
const FILLED_BYTES: [usize; 12] = [124, 125, 126, 127, 511, 512, 513, 1000, 1001, 65_535, 65_536, 70_001];

/// Bytes of a stream that is built; what would follow is left out.
const BUILT_BYTES_MAX: usize = 150_000;

/// Pieces of a stream, so that a long one does not take the time of a thousand short ones.
const PIECES_MAX: usize = 512;

/// An input of the targets that read frames.
///
/// The first byte chooses: bit 0 the role (1: client), bits 1 and 2 the limit on messages, bit 3 whether the
/// stream is spelled out (0) or built from [records](build), the other four what the target likes. The next two
/// bytes are the seed of the split; the rest is the stream.
pub struct Case {
    /// Who receives the stream, and within which limits.
    pub config: DecoderConfig,
    /// Bits that the target gives a meaning.
    pub choice: u8,
    /// Where the stream is cut.
    pub seed: u16,
    /// What the peer sends.
    pub stream: Vec<u8>,
}

impl Case {
    /// Reads an input; `None` if it is too short to be one.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        let (&[head, high, low], rest) = data.split_first_chunk()?;
        let role = if head & 1 == 0 { Role::Server } else { Role::Client };
        let limit = usize::from(head >> 1 & 3) % MESSAGE_BYTES_MAX.len();
        let message_bytes_max = MESSAGE_BYTES_MAX[limit];
        let config = DecoderConfig {
            role,
            message_bytes_max,
            pieces_bytes_max: 0,
            fragments_max: u32::MAX,
            deflate: DeflateAgreement::NONE,
        };
        let stream = if head & 8 == 0 { rest.to_vec() } else { build(rest, role) };
        Some(Self { config, choice: head >> 4, seed: u16::from_be_bytes([high, low]), stream })
    }

    /// The pieces in which the stream comes: each begins where the one before has ended.
    ///
    /// A seed of 0 is one piece, one of 1 is byte by byte (of a long stream, a few bytes); of others the lowest four bits are the scale, since
    /// pieces of one byte and pieces of a hundred find different faults.
    #[must_use]
    pub fn pieces(&self) -> Vec<Range<usize>> {
        pieces(self.stream.len(), self.seed)
    }
}

/// The pieces of a stream of `length` bytes, as [`Case::pieces`] says.
#[must_use]
pub fn pieces(length: usize, seed: u16) -> Vec<Range<usize>> {
    let mut state = u64::from(seed) | 1 << 32;
    let mut piece_bytes = || match seed {
        0 => length,
        1 => 1,
        _ => {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bound = 2_u64 << (seed & 15);
            1 + usize::try_from((state >> 33) % bound).expect("a small number")
        }
    };
    let mut pieces = Vec::new();
    let (mut start, least) = (0, length / PIECES_MAX);
    while start < length {
        let end = length.min(start + piece_bytes().max(least));
        pieces.push(start..end);
        start = end;
    }
    pieces
}

/// Builds a stream from records, so that a changed byte of the input is a changed frame and not the loss of all
/// that follows.
///
/// A record is the frame's first byte; a byte for the length; the payload. Of the length's byte the highest bit
/// is a flaw, which the next byte then names: the wrong mask bit, a length in 16 or in 64 bits whether needed
/// or not, or one over 63 bits. The other bits are the length itself, of a payload that follows unmasked, or
/// from 100 on one of [`FILLED_BYTES`], of which one byte follows.
#[must_use]
fn build(mut records: &[u8], role: Role) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((&[first, length_byte], rest)) = records.split_first_chunk() {
        records = rest;
        let flaw = if length_byte & 0x80 == 0 { None } else { records.split_off_first().copied() };
        let length = usize::from(length_byte & 0x7f);
        let mut payload = match length.checked_sub(100) {
            None => records.split_off(..length.min(records.len())).expect("it is not longer").to_vec(),
            Some(filled) => {
                let byte = records.split_off_first().copied().unwrap_or_default();
                vec![byte; FILLED_BYTES[filled % FILLED_BYTES.len()]]
            }
        };
        // A key that depends on the frame, so that the keys of a stream differ.
        let mask = [first, length_byte, 0x5a, 0xc3];
        let mut header = [0; HEADER_BYTES_MAX];
        let mut header_bytes = encode_header(Opcode::Binary, true, payload.len(), &mut header);
        header[0] = first;
        let mut mask_bit = if role == Role::Server { 0x80 } else { 0 };
        match flaw.map(|flaw| flaw % 4) {
            Some(0) => mask_bit ^= 0x80,
            Some(1) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
                header_bytes = 4;
            }
            Some(long) => {
                let length = payload.len() as u64 | if long == 2 { 0 } else { 1 << 63 };
                header[1] = 127;
                header[2..10].copy_from_slice(&length.to_be_bytes());
                header_bytes = 10;
            }
            None => {}
        }
        header[1] |= mask_bit;
        if stream.len() + payload.len() > BUILT_BYTES_MAX {
            break;
        }
        stream.extend_from_slice(&header[..header_bytes]);
        if mask_bit != 0 {
            stream.extend_from_slice(&mask);
            apply_mask(&mut payload, mask, 0);
        }
        stream.extend_from_slice(&payload);
    }
    stream
}

/// What a peer has sent, in memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The close frame.
    Close(Option<u16>, String),
}

/// The engine at the receiving end of a stream: all events so far, and what ended it.
pub struct Receiver<'p> {
    decoder: Decoder,
    pool: &'p mut PartialPool,
    config: DecoderConfig,
    received_bytes: usize,
    messages: usize,
    /// What has come of a message that is taken in pieces.
    pieces: Option<Vec<u8>>,
    /// What has come.
    pub events: Vec<Owned>,
    /// What is wrong with the stream.
    pub error: Option<ProtocolError>,
}

/// Heap that a decoder takes beside a message's payload, in bytes.
const PARTIAL_BYTES_MAX: usize = 512;

/// Heap that a decompressor takes, with the window of what it refers to and the buffer for its output, in bytes.
const INFLATE_BYTES_MAX: usize = 128 * 1024;

/// The smallest buffer that a decoder takes for a payload in parts, in bytes.
const PAYLOAD_CAPACITY_MIN: usize = 512;

impl<'p> Receiver<'p> {
    /// A connection of which nothing has been received. If `config` allows pieces, every other message is taken
    /// in pieces.
    pub fn new(config: DecoderConfig, pool: &'p mut PartialPool) -> Self {
        let (decoder, events) = (Decoder::default(), Vec::new());
        Self { decoder, pool, config, received_bytes: 0, messages: 0, pieces: None, events, error: None }
    }

    /// Whether nothing more may be received.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.error.is_some() || matches!(self.events.last(), Some(Owned::Close(..)))
    }

    /// Receives a piece of the stream, which it overwrites.
    ///
    /// # Panics
    /// If an event that lies in the piece lies elsewhere than it says, or more memory is held than may be.
    pub fn receive(&mut self, piece: &mut [u8]) {
        self.received_bytes += piece.len();
        let mut input = Input::new(piece);
        while !self.is_over() {
            match self.decoder.next(&self.config, self.pool, &mut input) {
                Ok(Some(Event::Message { kind, payload, at })) => {
                    let payload_bytes = payload.len();
                    self.events.push(Owned::Message(kind, payload.to_vec()));
                    self.messages += 1;
                    assert!(self.pieces.is_none() && payload_bytes <= self.config.message_bytes_max);
                    if let Some(at) = at {
                        assert_eq!(input.position(), at + payload_bytes, "it ends where reading goes on");
                        // An answer of the same length can be written over it.
                        let mask_bytes = if self.config.role == Role::Server { 4 } else { 0 };
                        assert!(at >= server_header_bytes(payload_bytes) + mask_bytes);
                    }
                }
                Ok(Some(Event::Begin(_))) => {
                    assert!(self.config.pieces_bytes_max > 0 && self.pieces.is_none());
                    if self.messages % 2 == 1 {
                        self.decoder.deliver_in_pieces();
                        self.pieces = Some(Vec::new());
                    }
                }
                Ok(Some(Event::Piece { kind, bytes, last })) => {
                    assert!(last || !bytes.is_empty());
                    let pieces = self.pieces.as_mut().expect("a message that is taken in pieces");
                    pieces.extend_from_slice(bytes);
                    assert!(pieces.len() <= self.config.pieces_bytes_max);
                    if last {
                        self.messages += 1;
                        self.events.push(Owned::Message(kind, self.pieces.take().unwrap_or_default()));
                    }
                }
                Ok(Some(Event::Ping(payload))) => self.events.push(Owned::Ping(payload.to_vec())),
                Ok(Some(Event::Pong(payload))) => self.events.push(Owned::Pong(payload.to_vec())),
                Ok(Some(Event::Close(CloseFrame { code, reason }))) => {
                    self.events.push(Owned::Close(code, reason.to_owned()));
                }
                Ok(None) => {
                    assert_eq!(input.remaining(), 0, "all has been read");
                    break;
                }
                Err(error) => self.error = Some(error),
            }
            self.assert_bounded();
        }
    }

    fn assert_bounded(&self) {
        let kept = self.decoder.buffered_bytes();
        assert_eq!(kept == 0, self.decoder.is_idle());
        // A buffer grows by what has come, fourfold while it is small.
        let received = self.received_bytes;
        let come = (4 * received).min((2 * received).max(4 * RECEIVE_BUFFER_BYTES));
        let (come, deflate) = if self.config.deflate.is_agreed() { (usize::MAX, INFLATE_BYTES_MAX) } else { (come, 0) };
        // What comes from the pool may have its buffer already; what is taken in pieces needs none.
        let payload = self.config.message_bytes_max.min(come).max(PAYLOAD_CAPACITY_MIN).max(POOLED_PAYLOAD_BYTES_MAX);
        let most = PARTIAL_BYTES_MAX + deflate + if self.pieces.is_some() { 0 } else { payload };
        assert!(kept <= most, "{kept} bytes are kept of {}", self.received_bytes);
    }

    /// Ends the connection, and says what came of it.
    ///
    /// # Panics
    /// If anything is still held, or the pool keeps more than it may.
    pub fn end(mut self) -> (Vec<Owned>, Option<ProtocolError>) {
        self.decoder.release(self.pool);
        assert!(self.decoder.is_idle());
        assert_eq!(self.decoder.buffered_bytes(), 0);
        let deflate = if self.config.deflate.is_agreed() { INFLATE_BYTES_MAX } else { 0 };
        let pooled = self.pool.heap_bytes();
        let most = PARTIAL_BYTES_MAX + POOLED_PAYLOAD_BYTES_MAX + deflate;
        assert!(pooled <= most, "{pooled} bytes for one connection at a time");
        (self.events, self.error)
    }
}
