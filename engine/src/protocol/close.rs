//! The close frame: its body, and the status codes (RFC 6455, sections 5.5.1 and 7.4).

use super::error::ProtocolError;
use super::frame::{self, CONTROL_PAYLOAD_BYTES_MAX, Opcode};

/// The status codes that the engine itself sends.
pub mod code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server shuts down, or the browser leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A message's content does not fit its type: text that is not UTF-8.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A rule of the server was broken for which there is no code of its own.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message is over the size limit.
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    /// The server met a condition that it did not expect.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The service restarts; the client may reconnect after a random delay.
    pub const SERVICE_RESTART: u16 = 1012;
    /// The service is overloaded; the client should come back later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// Authentication failed or did not come in time.
    pub const AUTHENTICATION_FAILED: u16 = 4001;
    /// The client sent more messages than its rate allows.
    pub const RATE_LIMITED: u16 = 4008;
    /// The client reads more slowly than messages come for it.
    pub const SLOW_CONSUMER: u16 = 4009;
    /// The user or the address holds too many connections.
    pub const TOO_MANY_CONNECTIONS: u16 = 4029;
}

/// The longest reason: a control frame's payload less the two bytes of the status code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - size_of::<u16>();

/// What a peer's close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'b> {
    /// The status code, absent if the body is empty (which means 1005 to an application).
    pub code: Option<u16>,
    /// The reason, at most [`CLOSE_REASON_BYTES_MAX`] bytes; empty if there is none.
    pub reason: &'b str,
}

impl<'b> CloseFrame<'b> {
    /// Reads the unmasked body of a close frame.
    ///
    /// # Errors
    /// [`ProtocolError::CloseTruncated`], [`ProtocolError::CloseCodeInvalid`] or
    /// [`ProtocolError::InvalidUtf8`].
    pub fn parse(body: &'b [u8]) -> Result<Self, ProtocolError> {
        match body {
            [] => Ok(Self { code: None, reason: "" }),
            [_] => Err(ProtocolError::CloseTruncated),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !may_be_sent(code) {
                    return Err(ProtocolError::CloseCodeInvalid(code));
                }
                let reason = str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
                Ok(Self { code: Some(code), reason })
            }
        }
    }
}

/// Whether a status code may stand in a close frame: 1000 to 1003, 1007 to 1014 and 3000 to 4999.
///
/// The others are reserved for what is never sent (1004 to 1006, 1015) or for later versions
/// (RFC 6455, section 7.4, and the IANA registry that it founds).
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends an unmasked close frame. A reason over [`CLOSE_REASON_BYTES_MAX`] bytes is cut at the
/// last character boundary before the limit.
///
/// # Panics
/// If the code may not be sent: that would be our own error, not the peer's.
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    assert!(may_be_sent(code), "close code {code} must not be sent");
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    frame::append_frame_header(out, Opcode::Close, size_of::<u16>() + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_and_private_codes_may_be_sent() {
        let valid: Vec<u16> = (0..=u16::MAX).filter(|&code| may_be_sent(code)).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(valid, expected);
    }

    #[test]
    fn a_body_is_a_code_and_a_reason_or_nothing() {
        assert_eq!(CloseFrame::parse(b""), Ok(CloseFrame { code: None, reason: "" }));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseTruncated));
        assert_eq!(CloseFrame::parse(b"\x03\xe8"), Ok(CloseFrame { code: Some(1000), reason: "" }));
        assert_eq!(CloseFrame::parse("\u{3}\u{69}".as_bytes()), Err(ProtocolError::CloseCodeInvalid(0x369)));
        assert_eq!(CloseFrame::parse(b"\x0f\xa0sch\xc3\xb6n"), Ok(CloseFrame { code: Some(4000), reason: "schön" }));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(ProtocolError::InvalidUtf8));
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            let error = Err(ProtocolError::CloseCodeInvalid(code));
            assert_eq!(CloseFrame::parse(&code.to_be_bytes()), error);
        }
    }

    #[test]
    fn a_written_frame_is_read_again_and_a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        append_close(&mut out, code::GOING_AWAY, "drain");
        assert_eq!(out, b"\x88\x07\x03\xe9drain");

        for shift in 0..3 {
            let reason = format!("{}{}", "x".repeat(shift), "€".repeat(60));
            let mut out = Vec::new();
            append_close(&mut out, code::NORMAL, &reason);
            assert_eq!(usize::from(out[1]) + 2, out.len());
            let read = CloseFrame::parse(&out[2..]).expect("our own frame is valid");
            assert!(reason.starts_with(read.reason));
            assert!(read.reason.len() <= CLOSE_REASON_BYTES_MAX);
            assert!(read.reason.len() > CLOSE_REASON_BYTES_MAX - "€".len());
        }
    }
}
