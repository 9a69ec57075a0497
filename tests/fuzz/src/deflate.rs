//! What is decompressed is what another implementation of DEFLATE reads, within the limit; what is compressed
//! comes back, to a peer with no larger a window than was agreed on.
//!
//! The other implementation, miniz_oxide, shares nothing with the engine's.

use crore_engine::protocol::deflate::{Compression, DeflateAgreement, Deflater, Direction, WINDOW_BITS_MIN, Window};
use crore_engine::protocol::frame::append_masked_fragment;
use crore_engine::protocol::{DecoderConfig, MessageKind, Opcode, PartialPool, ProtocolError, Role};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::stream::{Owned, Receiver, pieces};

/// Limits on messages, in bytes.
const MESSAGE_BYTES_MAX: [usize; 4] = [64, 2000, 40_000, 100_000];

/// Bytes of plain messages together, more than the largest window; what would follow is left out.
const PLAIN_BYTES_MAX: usize = 40_000;

/// Messages of an input; what would follow is left out.
const MESSAGES_MAX: usize = 16;

/// What follows every message before it is decompressed (RFC 7692, section 7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A stored block of one byte.
const PROBE: [u8; 6] = [0x00, 0x01, 0x00, 0xfe, 0xff, 0x00];

/// The input's first byte chooses: bit 0 whether the messages are plain, to be compressed (1), or compressed;
/// bit 1 whether the context is taken over; bits 2 to 4 the window; bits 5 and 6 the limit; bit 7 text. The next
/// is the level, the next two are the seed of the split. The rest are messages: a byte for the length, then as
/// many bytes. Of a plain message a length from 240 on means that the one byte which follows says what it is made
/// of: [`repeated`] text.
///
/// # Panics
/// If the promise is broken.
pub fn check(data: &[u8]) {
    let Some((&[head, level, high, low], mut rest)) = data.split_first_chunk() else { return };
    let direction = Direction { context_takeover: head & 2 != 0, window_bits: WINDOW_BITS_MIN + (head >> 2 & 7) };
    let setting = Setting {
        direction,
        level: 1 + level % 9,
        message_bytes_max: MESSAGE_BYTES_MAX[usize::from(head >> 5 & 3)],
        kind: if head & 0x80 == 0 { MessageKind::Binary } else { MessageKind::Text },
        seed: u16::from_be_bytes([high, low]),
    };
    let is_plain = head & 1 != 0;
    let mut messages = Vec::new();
    while messages.len() < MESSAGES_MAX
        && let Some(&length) = rest.split_off_first()
    {
        if is_plain && length >= 240 {
            let Some(&first) = rest.split_off_first() else { break };
            messages.push(repeated(length, first));
        } else {
            messages.push(rest.split_off(..rest.len().min(usize::from(length))).expect("it is not longer").to_vec());
        }
    }
    if is_plain { setting.check_compressed(&messages) } else { setting.check_decompressed(&messages) }
}

/// A long message: words that come again at several distances.
fn repeated(length: u8, first: u8) -> Vec<u8> {
    let bytes = 1 << (length - 240);
    let letters = b"abcdefghijklmnopqrstuvw";
    let letter = |index: usize| letters[(index / 7 * usize::from(first) + index) % letters.len()];
    (0..bytes + usize::from(first)).map(letter).collect()
}

struct Setting {
    direction: Direction,
    level: u8,
    message_bytes_max: usize,
    kind: MessageKind,
    seed: u16,
}

impl Setting {
    fn receiver<'p>(&self, role: Role, message_bytes_max: usize, pool: &'p mut PartialPool) -> Receiver<'p> {
        // The other direction is another one, so that to confuse them would be seen.
        let other = Direction { context_takeover: !self.direction.context_takeover, window_bits: 9 };
        let deflate = match role {
            Role::Client => DeflateAgreement::new(self.direction, other),
            Role::Server => DeflateAgreement::new(other, self.direction),
        };
        let fragments_max = u32::MAX;
        Receiver::new(DecoderConfig { role, message_bytes_max, pieces_bytes_max: 0, fragments_max, deflate }, pool)
    }

    fn opcode(&self) -> Opcode {
        self.kind.into()
    }

    /// Any bytes as compressed messages of a client.
    fn check_decompressed(&self, messages: &[Vec<u8>]) {
        let mut pool = PartialPool::new();
        let mut receiver = self.receiver(Role::Server, self.message_bytes_max, &mut pool);
        let mut other = Other::new(self.direction);
        for (number, message) in messages.iter().enumerate() {
            let mut stream = Vec::new();
            // Every other message comes in two fragments.
            let (first, second) = message.split_at(message.len() / 2 * (number % 2));
            if !first.is_empty() {
                append_masked_fragment(&mut stream, self.opcode(), false, first, [7, 0, 0x80, 0xff]);
            }
            let opcode = if first.is_empty() { self.opcode() } else { Opcode::Continuation };
            append_masked_fragment(&mut stream, opcode, true, second, [0x55, 1, 2, 3]);
            stream[0] |= 0x40;
            for piece in pieces(stream.len(), self.seed) {
                receiver.receive(&mut stream[piece]);
            }
            let expected = other.message(message, self.message_bytes_max);
            if !self.agree(message, &receiver, &expected) {
                break;
            }
        }
        receiver.end();
    }

    /// Compares what the engine has made of a message with what the other has; says whether they go on.
    fn agree(&self, message: &[u8], receiver: &Receiver<'_>, expected: &Outcome) -> bool {
        let valid = |bytes: &[u8]| self.kind == MessageKind::Binary || str::from_utf8(bytes).is_ok();
        match (&receiver.error, expected) {
            (None, Outcome::Whole(bytes)) => {
                assert!(bytes.len() <= self.message_bytes_max && valid(bytes));
                assert!(receiver.events.last() == Some(&Owned::Message(self.kind, bytes.clone())), "other bytes");
                return true;
            }
            (None, Outcome::TooLong) => panic!("the engine takes a message over the limit"),
            (None, Outcome::Broken(at)) => panic!("only the engine reads it: byte {at}"),
            (Some(ProtocolError::InvalidUtf8), Outcome::Whole(bytes)) => assert!(!valid(bytes)),
            (Some(ProtocolError::MessageTooBig { .. }), Outcome::Whole(_)) => {
                // What is longer compressed than plain, by more than a compressor ever makes it, is not looked at.
                assert!(message.len() > self.message_bytes_max, "only the engine finds it too long");
            }
            (Some(error), Outcome::Whole(_)) => panic!("only the engine refuses it: {error}"),
            (Some(_), Outcome::TooLong | Outcome::Broken(_)) => {}
        }
        false
    }

    /// Plain messages, compressed by a server for its client.
    fn check_compressed(&self, messages: &[Vec<u8>]) {
        let compression = Compression { level: self.level, threshold_bytes: 2, ..Compression::default() };
        let mut deflater = Deflater::new(&compression);
        let (mut window, mut pool) = (Window::new(), PartialPool::new());
        let mut receiver = self.receiver(Role::Client, PLAIN_BYTES_MAX, &mut pool);
        let mut peer = Ring::new(self.direction);
        let mut plain_bytes = 0;
        for message in messages {
            plain_bytes += message.len();
            if plain_bytes > PLAIN_BYTES_MAX {
                break;
            }
            if self.kind == MessageKind::Text && str::from_utf8(message).is_err() {
                continue;
            }
            let mut frame = Vec::new();
            let compressed = deflater.append_message(&mut frame, self.opcode(), message, self.direction, &mut window);
            assert_eq!(frame[0] & 0x40 != 0, compressed);
            assert!(window.heap_bytes() <= self.direction.context_bytes());
            let payload_start = match frame[1] {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            let payload = &frame[payload_start..];
            assert!(payload.len() <= message.len() && compressed == (payload.len() < message.len()));
            if compressed {
                assert!(peer.message(payload) == *message, "a peer with a window of the agreed size reads other bytes");
            }
            for piece in pieces(frame.len(), self.seed) {
                receiver.receive(&mut frame[piece]);
            }
            assert_eq!(receiver.error, None);
            assert!(receiver.events.pop() == Some(Owned::Message(self.kind, message.clone())), "other bytes come back");
        }
        receiver.end();
    }
}

/// What the other has made of a message.
enum Outcome {
    Whole(Vec<u8>),
    TooLong,
    /// At this byte.
    Broken(usize),
}

/// miniz_oxide as the receiver, with everything that was said in one buffer, so that what may be referred to is
/// what lies before.
struct Other {
    direction: Direction,
    said: Vec<u8>,
}

impl Other {
    const fn new(direction: Direction) -> Self {
        Self { direction, said: Vec::new() }
    }

    fn message(&mut self, message: &[u8], bytes_max: usize) -> Outcome {
        let window_bytes = self.direction.window_bytes();
        self.said.drain(..self.said.len().saturating_sub(window_bytes));
        let start = self.said.len();
        // Room for one byte beyond the limit.
        self.said.resize(start + bytes_max + 1, 0);
        let mut written = start;
        let mut end = Some(start);
        let mut state = Box::<DecompressorOxide>::default();
        let (mut base, mut read) = (0, 0);
        while read < message.len() {
            let (status, more, wrote) = step(&mut state, &message[read..], &mut self.said[base..], written - base);
            (read, written) = (read + more, written + wrote);
            end = match status {
                // A block that calls itself the last one: what follows in the message begins anew, and refers to
                // nothing before it.
                TINFLStatus::Done => {
                    *state = DecompressorOxide::default();
                    base = written;
                    Some(written)
                }
                TINFLStatus::NeedsMoreInput => None,
                TINFLStatus::HasMoreOutput => return Outcome::TooLong,
                _ => return Outcome::Broken(read),
            };
        }
        if written - start > bytes_max {
            return Outcome::TooLong;
        }
        // The message has ended where a block does, if what follows ends an empty block and begins another.
        if end.is_none() {
            let (status, _, wrote) = step(&mut state, &TAIL, &mut self.said[base..], written - base);
            let probed = step(&mut state, &PROBE, &mut self.said[base..], written - base);
            let whole = (TINFLStatus::NeedsMoreInput, PROBE.len(), 1);
            if (status, wrote) != (TINFLStatus::NeedsMoreInput, 0) || probed != whole {
                return Outcome::Broken(read);
            }
        }
        self.said.truncate(written);
        Outcome::Whole(self.said[start..].to_vec())
    }
}

fn step(state: &mut DecompressorOxide, input: &[u8], said: &mut [u8], at: usize) -> (TINFLStatus, usize, usize) {
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    decompress(state, input, said, at, flags)
}

/// miniz_oxide as a client, with a window of exactly the size that was agreed on.
struct Ring {
    direction: Direction,
    state: Box<DecompressorOxide>,
    ring: Vec<u8>,
    at: usize,
}

impl Ring {
    fn new(direction: Direction) -> Self {
        Self { direction, state: Box::default(), ring: vec![0; 1 << direction.window_bits], at: 0 }
    }

    fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.direction.context_takeover {
            *self.state = DecompressorOxide::default();
        }
        let input = [payload, &TAIL[..]].concat();
        let (mut message, mut read) = (Vec::new(), 0);
        loop {
            let rest = &input[read..];
            let (status, more, wrote) =
                decompress(&mut self.state, rest, &mut self.ring, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            message.extend_from_slice(&self.ring[self.at..self.at + wrote]);
            read += more;
            self.at = (self.at + wrote) % self.ring.len();
            match status {
                TINFLStatus::NeedsMoreInput if read == input.len() => return message,
                TINFLStatus::HasMoreOutput => {}
                other => panic!("{other:?} at byte {read} of what was compressed"),
            }
        }
    }
}
