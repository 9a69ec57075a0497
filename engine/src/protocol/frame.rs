//! Frames (RFC 6455, section 5.2): reading and writing headers.

use super::error::ProtocolError;
pub use crate::message::MessageKind;

mod encode;

pub(super) use encode::append_compressed_header;
pub use encode::{
    WrittenFrame, append_frame, append_frame_header, append_masked_fragment, append_masked_frame, encode_header,
    server_header_bytes, written_frame,
};

/// The longest header: two bytes, a 64-bit length, a mask.
pub const HEADER_BYTES_MAX: usize = SERVER_HEADER_BYTES_MAX + MASK_BYTES;
/// The longest header of a server, which does not mask.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;
/// The masking key.
pub const MASK_BYTES: usize = 4;
/// The longest payload of a control frame (section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

const FIN_BIT: u8 = 0x80;
const RSV1_BIT: u8 = 0x40;
const RSV2_AND_3_BITS: u8 = 0x30;
const OPCODE_BITS: u8 = 0x0f;
const MASK_BIT: u8 = 0x80;
/// In the 7-bit length: the length follows in 16 bits.
const LENGTH_16: u8 = 126;
/// In the 7-bit length: the length follows in 64 bits.
const LENGTH_64: u8 = 127;
/// The largest payload whose length fits into the second byte.
const PAYLOAD_BYTES_MAX_7: usize = 125;
/// The largest payload whose length fits into 16 bits.
const PAYLOAD_BYTES_MAX_16: usize = 65_535;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The close handshake.
    Close = 8,
    /// A question for a pong with the same payload.
    Ping = 9,
    /// The answer to a ping, or an unasked sign of life.
    Pong = 10,
}

impl Opcode {
    /// Whether it is a close, a ping or a pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }

    /// The type of the message that a frame with this opcode starts; `None` for all others.
    #[must_use]
    pub const fn message_kind(self) -> Option<MessageKind> {
        match self {
            Self::Text => Some(MessageKind::Text),
            Self::Binary => Some(MessageKind::Binary),
            _ => None,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// The end of the connection at which we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames only, sends unmasked ones.
    Server,
    /// Receives unmasked frames only, sends masked ones.
    Client,
}

impl Role {
    /// The mask bit of the frames that this end receives.
    pub(super) const fn received_mask_bit(self) -> u8 {
        match self {
            Self::Server => MASK_BIT,
            Self::Client => 0,
        }
    }

    /// The length of the key in the frames that this end receives.
    pub(super) const fn received_mask_bytes(self) -> usize {
        match self {
            Self::Server => MASK_BYTES,
            Self::Client => 0,
        }
    }
}

/// A header as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this frame is the last of its message.
    pub fin: bool,
    /// The bit that an extension may use (permessage-deflate: the message is compressed).
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key, if the payload is masked.
    pub mask: Option<[u8; MASK_BYTES]>,
    /// The length of the payload, which follows the header.
    pub payload_bytes: u64,
    /// The length of the header itself, with the key.
    pub header_bytes: usize,
}

/// What the stream before a frame allows it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameContext {
    /// Whether a fragmented message is under way.
    pub within_message: bool,
    /// Whether an agreed extension gives RSV1 a meaning on the first frame of a message.
    pub rsv1_allowed: bool,
    /// How many bytes the message may still grow by.
    pub payload_bytes_left: usize,
    /// The limit that this is left of, for the error.
    pub message_bytes_max: usize,
}

impl FrameContext {
    /// Before the first frame of a message that may have `message_bytes_max` bytes.
    #[must_use]
    pub const fn between_messages(message_bytes_max: usize) -> Self {
        Self { within_message: false, rsv1_allowed: false, payload_bytes_left: message_bytes_max, message_bytes_max }
    }
}

/// Reads the header at the start of `bytes`; `None` if it is still incomplete.
///
/// Every byte is judged as soon as it is there, so that a wrong one is refused even if nothing ever
/// follows it: FIN, RSV and opcode on the first byte, the mask bit and a control frame's length on
/// the second, a length on the first of its bytes behind which it can't become right any more.
///
/// # Errors
/// The first rule of section 5 that is broken, or [`ProtocolError::MessageTooBig`].
pub fn decode_header(bytes: &[u8], role: Role, context: &FrameContext) -> Result<Option<FrameHeader>, ProtocolError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let opcode = judge_first_byte(first, context)?;

    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    judge_second_byte(second, role, opcode)?;

    let length = decode_length(&bytes[2..], second)?;
    let starts_compressed = first & RSV1_BIT != 0;
    let left = context.payload_bytes_left;
    let left = if starts_compressed { compressed_bytes_max(left) } else { left };
    let fits = usize::try_from(length.least).is_ok_and(|n| n <= left);
    if !opcode.is_control() && !fits {
        return Err(ProtocolError::MessageTooBig { bytes_max: context.message_bytes_max });
    }

    let header_bytes = 2 + length.bytes + role.received_mask_bytes();
    if bytes.len() < header_bytes {
        return Ok(None);
    }
    Ok(Some(FrameHeader {
        fin: first & FIN_BIT != 0,
        rsv1: first & RSV1_BIT != 0,
        opcode,
        mask: bytes[2 + length.bytes..header_bytes].first_chunk().copied(),
        payload_bytes: length.least,
        header_bytes,
    }))
}

/// How long a compressed message may be that is within the limit once it is decompressed. Compressing what
/// does not shrink adds a little, and so does a peer that flushes often.
pub(super) const fn compressed_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 16).saturating_add(64)
}

fn judge_first_byte(byte: u8, context: &FrameContext) -> Result<Opcode, ProtocolError> {
    let opcode_bits = byte & OPCODE_BITS;
    let opcode = Opcode::from_bits(opcode_bits).ok_or(ProtocolError::ReservedOpcode(opcode_bits))?;
    let starts_message = opcode.message_kind().is_some();
    let rsv1_allowed = context.rsv1_allowed && starts_message;
    if byte & RSV2_AND_3_BITS != 0 || (byte & RSV1_BIT != 0 && !rsv1_allowed) {
        return Err(ProtocolError::ReservedBit);
    }
    if opcode.is_control() {
        if byte & FIN_BIT == 0 {
            return Err(ProtocolError::ControlFragmented);
        }
    } else if starts_message && context.within_message {
        return Err(ProtocolError::MessageInsideMessage);
    } else if !starts_message && !context.within_message {
        return Err(ProtocolError::ContinuationWithoutStart);
    }
    Ok(opcode)
}

fn judge_second_byte(byte: u8, role: Role, opcode: Opcode) -> Result<(), ProtocolError> {
    if byte & MASK_BIT != role.received_mask_bit() {
        return Err(match role {
            Role::Server => ProtocolError::Unmasked,
            Role::Client => ProtocolError::Masked,
        });
    }
    if opcode.is_control() && usize::from(byte & !MASK_BIT) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(())
}

/// What is known of a payload's length.
struct Length {
    /// The length itself if all its bytes have come; otherwise the smallest that begins like this.
    least: u64,
    /// How many bytes behind the second one it has, come or not.
    bytes: usize,
}

/// Reads the length from what has come behind the second byte.
fn decode_length(rest: &[u8], second: u8) -> Result<Length, ProtocolError> {
    let (bytes, minimum) = match second & !MASK_BIT {
        LENGTH_16 => (2, PAYLOAD_BYTES_MAX_7),
        LENGTH_64 => (8, PAYLOAD_BYTES_MAX_16),
        short => return Ok(Length { least: u64::from(short), bytes: 0 }),
    };
    let come = &rest[..rest.len().min(bytes)];
    let filled = |filler| {
        let mut length = [0; 8];
        let place = &mut length[8 - bytes..];
        place.fill(filler);
        place[..come.len()].copy_from_slice(come);
        u64::from_be_bytes(length)
    };
    let (least, most) = (filled(0), filled(0xff));
    if least >> 63 != 0 {
        return Err(ProtocolError::LengthOver63Bits);
    }
    if usize::try_from(most).is_ok_and(|most| most <= minimum) {
        return Err(ProtocolError::LengthNotMinimal);
    }
    Ok(Length { least, bytes })
}

/// A single-frame message of which every byte is in the buffer.
#[derive(Clone, Copy)]
pub(super) struct WholeMessage {
    pub(super) kind: MessageKind,
    /// Where the payload starts; the key, if there is one, lies directly before it.
    pub(super) header_bytes: usize,
    pub(super) payload_bytes: usize,
}

impl WholeMessage {
    /// Finds a proper one at the start of `bytes`; everything else, right or wrong, is `None` and
    /// left to [`decode_header`].
    ///
    /// This is nearly all traffic, so it knows only the few bytes that are then possible.
    #[inline(always)]
    pub(super) fn find(bytes: &[u8], role: Role, payload_bytes_max: usize) -> Option<Self> {
        const TEXT: u8 = FIN_BIT | Opcode::Text as u8;
        const BINARY: u8 = FIN_BIT | Opcode::Binary as u8;

        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let kind = match first {
            TEXT => MessageKind::Text,
            BINARY => MessageKind::Binary,
            _ => return None,
        };
        // A wrong mask bit leaves bit 7 set, which is no length.
        let (length, payload_bytes) = match second ^ role.received_mask_bit() {
            short @ 0..LENGTH_16 => (2, usize::from(short)),
            LENGTH_16 => {
                let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                (4, (length > PAYLOAD_BYTES_MAX_7).then_some(length)?)
            }
            LENGTH_64 => {
                let length = usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?;
                (SERVER_HEADER_BYTES_MAX, (length > PAYLOAD_BYTES_MAX_16).then_some(length)?)
            }
            _ => return None,
        };
        let header_bytes = length + role.received_mask_bytes();
        let available = bytes.len().checked_sub(header_bytes)?;
        let fits = payload_bytes <= available && payload_bytes <= payload_bytes_max;
        fits.then_some(Self { kind, header_bytes, payload_bytes })
    }
}

#[cfg(test)]
mod tests;
