//! Frames as a client reads and writes them, written from RFC 6455 and not from the engine's codec.

/// FIN and opcode of a whole text message.
pub const TEXT: u8 = 0x81;
/// FIN and opcode of a whole binary message.
pub const BINARY: u8 = 0x82;
/// FIN and opcode of a close frame.
pub const CLOSE: u8 = 0x88;
/// FIN and opcode of a ping.
pub const PING: u8 = 0x89;
/// FIN and opcode of a pong.
pub const PONG: u8 = 0x8a;

/// The masking key of every frame that the tests send. Its bytes differ, so that a payload which is
/// unmasked at a wrong offset is not taken for right.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode, as they came.
    pub first: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes a whole frame off the front of `bytes`; `None` if there is none yet.
    ///
    /// # Panics
    /// If the server masks, or does not use the shortest form of the length (section 5.2).
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert!(second & 0x80 == 0, "a server must not mask");
        let (payload_bytes, header_bytes) = match second {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let shortest = match payload_bytes {
            0..=125 => 2,
            126..=65_535 => 4,
            _ => 10,
        };
        assert_eq!(header_bytes, shortest, "the length {payload_bytes} is not in its shortest form");
        let end = header_bytes + usize::try_from(payload_bytes).expect("a length that fits into memory");
        if bytes.len() < end {
            return None;
        }
        let payload = bytes[header_bytes..end].to_vec();
        bytes.drain(..end);
        Some(Self { first, payload })
    }

    /// The status code and the reason of a close frame.
    ///
    /// # Panics
    /// If it is none, or its body is not proper.
    #[must_use]
    #[track_caller]
    pub fn close(&self) -> (Option<u16>, String) {
        assert_eq!(self.first, CLOSE, "a close frame was expected, not {self:?}");
        match self.payload.split_first_chunk() {
            None if self.payload.is_empty() => (None, String::new()),
            None => panic!("half a status code"),
            Some((code, reason)) => {
                (Some(u16::from_be_bytes(*code)), String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"))
            }
        }
    }
}

/// A masked frame; `first` is FIN, the reserved bits and the opcode.
#[must_use]
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    let body = frame.len();
    frame.extend_from_slice(payload);
    for (index, byte) in frame[body..].iter_mut().enumerate() {
        *byte ^= MASK[index % 4];
    }
    frame
}

/// The header of a masked frame that announces `payload_bytes`, with the key.
#[must_use]
pub fn header(first: u8, payload_bytes: u64) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short @ 0..=125), _) => header.push(0x80 | short),
        (_, Ok(middle)) => {
            header.push(0x80 | 126);
            header.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&payload_bytes.to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}

/// A masked close frame.
#[must_use]
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(reason.as_bytes());
    masked(CLOSE, &body)
}

/// The opcodes of a message's fragments: the first of a text, and those that follow.
pub mod fragment {
    /// The first fragment of a text message.
    pub const TEXT: u8 = 0x01;
    /// The first fragment of a binary message.
    pub const BINARY: u8 = 0x02;
    /// A further fragment that is not the last.
    pub const MIDDLE: u8 = 0x00;
    /// The last fragment.
    pub const LAST: u8 = 0x80;
}
