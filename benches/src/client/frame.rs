//! Frames on the wire: masked ones to the server, headers of those that it answers with.
//!
//! The client has its own few lines for this, so that a fault in the engine's codec is not
//! answered by the same fault here.

use super::ProtocolError;
use super::channels::Channels;
use super::payload::Payload;

/// Bytes of a [`Stamp`] at the start of every payload: the smallest message of a load.
pub(crate) const STAMP_BYTES: usize = 12;

/// Opcodes of RFC 6455, section 5.2.
pub(crate) mod opcode {
    /// UTF-8 text.
    pub(crate) const TEXT: u8 = 0x1;
    /// Bytes.
    pub(crate) const BINARY: u8 = 0x2;
    /// The end of the connection.
    pub(crate) const CLOSE: u8 = 0x8;
    /// A request for a pong.
    pub(crate) const PING: u8 = 0x9;
    /// The answer to a ping.
    pub(crate) const PONG: u8 = 0xA;
}

/// What every payload begins with: which message this is, and when it left or should have left.
///
/// It is written six bits to a byte, so that it is valid UTF-8 in a text frame, and needs no escape in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the message on its connection, 24 bits.
    pub(crate) sequence: u32,
    /// Nanoseconds of the client's clock, 48 bits; or [`Self::UNSEEN_NS`].
    pub(crate) time_ns: u64,
}

impl Stamp {
    /// The time of a compressed message that was only counted.
    pub(crate) const UNSEEN_NS: u64 = u64::MAX;

    /// Sequence numbers run up to this and start again.
    pub(crate) const SEQUENCE_MASK: u32 = (1 << 24) - 1;

    #[expect(clippy::cast_possible_truncation, reason = "six bits at a time are what is wanted")]
    pub(crate) fn encode(self) -> [u8; STAMP_BYTES] {
        std::array::from_fn(|at| {
            let six = if at < 4 { (self.sequence >> (6 * at)) as u8 } else { (self.time_ns >> (6 * (at - 4))) as u8 };
            // Printable, and neither the quotation mark nor the backslash.
            let letter = b'#' + (six & 0x3F);
            letter + u8::from(letter >= b'\\')
        })
    }

    /// Reads the first [`STAMP_BYTES`] of a payload. Foreign bytes give a stamp that no one waits for.
    pub(crate) fn decode(payload: &[u8]) -> Self {
        let (sequence, time) = payload[..STAMP_BYTES].split_at(4);
        let six = |byte: u8| byte.wrapping_sub(b'#' + u8::from(byte > b'\\')) & 0x3F;
        let join = |value: u64, byte: &u8| value << 6 | u64::from(six(*byte));
        let sequence = u32::try_from(sequence.iter().rev().fold(0, join)).unwrap_or(0);
        Self { sequence, time_ns: time.iter().rev().fold(0, join) }
    }
}

/// The one kind of message that a load sends: its size and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `opcode::TEXT` or `opcode::BINARY`.
    pub(crate) opcode: u8,
    /// Bytes of the payload, or of its data where it goes through channels; at least [`STAMP_BYTES`].
    pub(crate) payload_bytes: usize,
    /// What the payload is.
    pub(crate) payload: Payload,
    /// Whether messages go through channels, as text in the JSON protocol of `crore`.
    pub(crate) channels: Option<Channels>,
}

impl Shape {
    /// What follows the stamp.
    pub(crate) fn body(self) -> Vec<u8> {
        self.payload.bytes(self.payload_bytes.saturating_sub(STAMP_BYTES))
    }

    /// Makes `frames` hold exactly `count` frames of connection `slot`, masked with `mask`, and stamps the first of them
    /// with what `stamp` gives for it, and so on. Frames that are there already are kept: only stamps are written.
    pub(crate) fn write(
        self,
        frames: &mut Vec<u8>,
        slot: u32,
        count: usize,
        mask: [u8; 4],
        mut stamp: impl FnMut(usize) -> Stamp,
    ) {
        let (before, behind) = self.channels.map_or((0, 0), Channels::around_bytes);
        let payload_bytes = before + self.payload_bytes + behind;
        let header_bytes = header_bytes(payload_bytes);
        let frame_bytes = header_bytes + payload_bytes;
        frames.truncate(count * frame_bytes);
        if frames.len() < count * frame_bytes {
            let data = [&[0; STAMP_BYTES][..], &self.body()].concat();
            let payload = self.channels.map_or(data.clone(), |channels| channels.message(slot, &data));
            while frames.len() < count * frame_bytes {
                append(frames, FIN | self.opcode, &payload, mask);
            }
        }
        for (index, frame) in frames.chunks_exact_mut(frame_bytes).enumerate() {
            let bytes = stamp(index).encode();
            for (at, (target, byte)) in frame[header_bytes + before..].iter_mut().zip(bytes).enumerate() {
                *target = byte ^ mask[(before + at) % 4];
            }
        }
    }
}

/// Bytes of the header of a masked frame.
const fn header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..126 => 6,
        126..65_536 => 8,
        _ => 14,
    }
}

/// A masked control frame with a payload of up to 125 bytes.
pub(crate) fn control(frames: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    debug_assert!(payload.len() <= 125, "RFC 6455, section 5.5");
    append(frames, FIN | opcode, payload, mask);
}

/// A masked frame with this first byte.
pub(crate) fn append(frames: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    write_header(frames, first, payload.len(), mask);
    frames.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}

/// A frame that is a whole message.
pub(crate) const FIN: u8 = 0x80;

/// A message that is compressed (RFC 7692, section 6).
pub(crate) const RSV1: u8 = 0x40;

/// RFC 6455, section 5.2: the first byte, the shortest form of the length, the mask.
#[expect(clippy::cast_possible_truncation, reason = "each arm has looked at the size")]
fn write_header(frames: &mut Vec<u8>, first: u8, payload_bytes: usize, mask: [u8; 4]) {
    frames.push(first);
    match payload_bytes {
        0..126 => frames.push(0x80 | payload_bytes as u8),
        126..65_536 => {
            frames.push(0x80 | 126);
            frames.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            frames.push(0x80 | 127);
            frames.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    frames.extend(mask);
}

/// The header of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Type of the frame.
    pub(crate) opcode: u8,
    /// Whether the message is compressed.
    pub(crate) compressed: bool,
    /// Bytes of the header itself.
    pub(crate) bytes: usize,
    /// Bytes of the payload behind it.
    pub(crate) payload_bytes: u64,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it is not complete yet.
    ///
    /// # Errors
    /// A server must not send such a frame, or this client did not ask for it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let opcode = first & 0x0F;
        match first & 0xF0 {
            0x80 | 0xC0 => {}
            0x00 => return Err(ProtocolError::Fragmented),
            _ => return Err(ProtocolError::Extension),
        }
        if opcode == 0 {
            return Err(ProtocolError::Fragmented);
        }
        if second & 0x80 != 0 {
            return Err(ProtocolError::Masked);
        }
        let (bytes, payload_bytes) = match second & 0x7F {
            126 => match rest {
                [high, low, ..] => (4, u64::from(u16::from_be_bytes([*high, *low]))),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        Ok(Some(Self { opcode, compressed: first & RSV1 != 0, bytes, payload_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::channels;

    fn unmasked(frame: &[u8], header_bytes: usize) -> Vec<u8> {
        let mask = &frame[header_bytes - 4..header_bytes];
        frame[header_bytes..].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect()
    }

    #[test]
    fn stamps_survive_and_are_text() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..1000 {
            let stamp = Stamp { sequence: random.u32(..) & Stamp::SEQUENCE_MASK, time_ns: random.u64(..) >> 16 };
            let bytes = stamp.encode();
            assert_eq!(Stamp::decode(&bytes), stamp);
            assert!(bytes.iter().all(|byte| (b' '..0x7F).contains(byte) && !b"\"\\".contains(byte)), "{bytes:?}");
        }
    }

    #[test]
    fn frames_have_the_shortest_header_and_a_stamp_each() {
        let mask = [1, 0x82, 3, 0x44];
        for (size, header_bytes) in [(12, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let shape = Shape { opcode: opcode::TEXT, payload_bytes: size, payload: Payload::Filler, channels: None };
            let mut frames = Vec::new();
            let stamp = |index: usize| Stamp { sequence: u32::try_from(index).expect("small"), time_ns: 7 };
            shape.write(&mut frames, 0, 3, mask, stamp);
            assert_eq!(frames.len(), 3 * (header_bytes + size));
            for (index, frame) in frames.chunks(header_bytes + size).enumerate() {
                assert_eq!(frame[0], 0x81);
                let payload = unmasked(frame, header_bytes);
                assert_eq!(Stamp::decode(&payload), stamp(index));
                assert!(payload[STAMP_BYTES..].iter().all(|byte| *byte == b'x'));
            }
            shape.write(&mut frames, 0, 1, mask, |_| Stamp { sequence: 9, time_ns: 1 });
            assert_eq!(frames.len(), header_bytes + size);
            assert_eq!(Stamp::decode(&unmasked(&frames, header_bytes)).sequence, 9);
        }
    }

    #[test]
    fn messages_to_channels_are_stamped_in_their_data() {
        let mask = [1, 0x82, 3, 0x44];
        for (channels, size) in [(Channels::Own, 12), (Channels::Common, 64), (Channels::Own, 70_000)] {
            let channels = Some(channels);
            let shape = Shape { opcode: opcode::TEXT, payload_bytes: size, payload: Payload::Filler, channels };
            let mut frames = Vec::new();
            for sequence in [5, 6] {
                shape.write(&mut frames, 7, 1, mask, |_| Stamp { sequence, time_ns: 1 });
                let header = header_bytes(frames.len() - 14);
                let payload = unmasked(&frames, header);
                assert_eq!(channels::stamp(&payload), Some(Stamp { sequence, time_ns: 1 }));
            }
        }
    }

    #[test]
    fn headers_are_read_byte_by_byte() {
        let wide = [0x82, 126, 0x01, 0x00];
        let widest = [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        for (bytes, payload_bytes) in [(&wide[..2], None), (&wide, Some(256)), (&widest[..9], None)] {
            assert_eq!(Header::decode(bytes).unwrap().map(|header| header.payload_bytes), payload_bytes);
        }
        let expected = Header { opcode: opcode::BINARY, compressed: false, bytes: 10, payload_bytes: 65_536 };
        assert_eq!(Header::decode(&widest), Ok(Some(expected)));
        assert_eq!(Header::decode(&[0x82]), Ok(None));
    }

    #[test]
    fn what_a_server_must_not_send_is_named() {
        assert_eq!(Header::decode(&[0x82, 0x85]), Err(ProtocolError::Masked));
        assert_eq!(Header::decode(&[0x02, 0x05]), Err(ProtocolError::Fragmented));
        assert_eq!(Header::decode(&[0x80, 0x05]), Err(ProtocolError::Fragmented));
        assert_eq!(Header::decode(&[0xA2, 0x05]), Err(ProtocolError::Extension));
    }
}
