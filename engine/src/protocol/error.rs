//! What a peer can do wrong after the handshake, and the close code that answers it.

use super::close::code;

/// A breach of RFC 6455, or of a limit, that ends the connection.
///
/// The message fits into a close frame as its reason (at most 123 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set although no agreed extension gives it a meaning (section 5.2).
    #[error("a reserved bit is set without an agreed extension; clear RSV1-3")]
    ReservedBit,
    /// Opcodes 3 to 7 and 11 to 15 have no meaning (section 5.2).
    #[error("opcode {0:#x} is reserved; use 0x0, 0x1, 0x2, 0x8, 0x9 or 0xA")]
    ReservedOpcode(u8),
    /// A control frame without FIN (section 5.5).
    #[error("a control frame is fragmented; send it as one frame with FIN")]
    ControlFragmented,
    /// A control frame that announces more than 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes; shorten its payload")]
    ControlTooLong,
    /// A client sent a frame without a mask (section 5.1).
    #[error("a client's frame is not masked; mask every frame")]
    Unmasked,
    /// A server sent a frame with a mask (section 5.1).
    #[error("a server's frame is masked; send it without a mask")]
    Masked,
    /// A 16-bit or 64-bit length where a shorter form holds the number (section 5.2).
    #[error("a payload length is not in its shortest form; use the minimal one")]
    LengthNotMinimal,
    /// A 64-bit length whose highest bit is set (section 5.2).
    #[error("a payload length uses its highest bit; 63 bits are the maximum")]
    LengthOver63Bits,
    /// A continuation frame while no message is under way (section 5.4).
    #[error("a continuation frame continues no message; start with text or binary")]
    ContinuationWithoutStart,
    /// A text or binary frame while a fragmented message is under way (section 5.4).
    #[error("a new message starts inside a fragmented one; finish that one first")]
    MessageInsideMessage,
    /// The message is, or is announced to be, over the limit.
    #[error("a message is longer than {bytes_max} bytes; send it in smaller messages")]
    MessageTooBig {
        /// The limit, in bytes of payload.
        bytes_max: usize,
    },
    /// The message came in more frames than the limit allows.
    #[error("a message has more than {fragments_max} fragments; send larger ones")]
    TooManyFragments {
        /// The limit, in frames.
        fragments_max: u32,
    },
    /// Text, or the reason of a close frame, is not UTF-8 (section 8.1).
    #[error("text is not valid UTF-8; send other data as binary")]
    InvalidUtf8,
    /// A compressed message is not DEFLATE data, or ends in the middle of it (RFC 7692, section 7.2.2).
    #[error("a compressed message can't be decompressed; send it as RFC 7692 says, or without RSV1")]
    InvalidDeflate,
    /// A close frame with a body of one byte, which holds no status code (section 5.5.1).
    #[error("a close frame has half a status code; send two bytes or none")]
    CloseTruncated,
    /// A status code that must not be sent (section 7.4).
    #[error("close code {0} must not be sent; use 1000 or one from 3000 to 4999")]
    CloseCodeInvalid(u16),
}

impl ProtocolError {
    /// The status code of the close frame that answers the error: 1002, 1007 or 1009.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::MessageTooBig { .. } | Self::TooManyFragments { .. } => code::MESSAGE_TOO_BIG,
            Self::InvalidUtf8 | Self::InvalidDeflate => code::INVALID_PAYLOAD,
            _ => code::PROTOCOL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::close::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn every_error_fits_into_a_close_frame_with_its_code() {
        let errors = [
            (ProtocolError::ReservedBit, 1002),
            (ProtocolError::ReservedOpcode(15), 1002),
            (ProtocolError::ControlFragmented, 1002),
            (ProtocolError::ControlTooLong, 1002),
            (ProtocolError::Unmasked, 1002),
            (ProtocolError::Masked, 1002),
            (ProtocolError::LengthNotMinimal, 1002),
            (ProtocolError::LengthOver63Bits, 1002),
            (ProtocolError::ContinuationWithoutStart, 1002),
            (ProtocolError::MessageInsideMessage, 1002),
            (ProtocolError::MessageTooBig { bytes_max: usize::MAX }, 1009),
            (ProtocolError::TooManyFragments { fragments_max: u32::MAX }, 1009),
            (ProtocolError::InvalidUtf8, 1007),
            (ProtocolError::InvalidDeflate, 1007),
            (ProtocolError::CloseTruncated, 1002),
            (ProtocolError::CloseCodeInvalid(u16::MAX), 1002),
        ];
        for (error, code) in errors {
            assert_eq!(error.close_code(), code, "{error:?}");
            assert!(error.to_string().len() <= CLOSE_REASON_BYTES_MAX, "{error}");
        }
    }
}
