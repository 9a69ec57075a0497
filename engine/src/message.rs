//! Messages: what a peer said, and what is said to peers.

use bytes::Bytes;

/// Whether a payload is UTF-8 text or bytes (RFC 6455, section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8, checked on the way in.
    Text,
    /// Any bytes.
    Binary,
}

/// A message that has begun to come and does not lie in one receive buffer as a whole, or is compressed:
/// what is known of it by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageStart {
    /// Text or binary.
    pub kind: MessageKind,
    /// Bytes of payload that the message's first frame announces, as they are sent.
    pub frame_bytes: u64,
    /// Whether they are compressed, so that the message is longer than its frames.
    pub compressed: bool,
    /// Whether that frame is the only one, and so its payload the whole message.
    pub only_frame: bool,
}

/// A piece of a message that is taken as it comes. Its bytes lie where they were received or decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The kind of the message. Text has been checked up to here; a piece may end within a character.
    pub kind: MessageKind,
    /// The bytes that follow those of the piece before. Only the last piece may have none.
    pub bytes: &'a [u8],
    /// Whether the message ends with this piece.
    pub last: bool,
}

/// A whole message whose payload lies elsewhere: in the receive buffer when it has just come, in
/// the caller's memory when it is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    kind: MessageKind,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A text message.
    #[must_use]
    pub const fn text(text: &'a str) -> Self {
        Self { kind: MessageKind::Text, payload: text.as_bytes() }
    }

    /// A binary message.
    #[must_use]
    pub const fn binary(payload: &'a [u8]) -> Self {
        Self { kind: MessageKind::Binary, payload }
    }

    /// What the decoder has handed out: text has been checked.
    pub(crate) const fn received(kind: MessageKind, payload: &'a [u8]) -> Self {
        Self { kind, payload }
    }

    /// Text or binary.
    #[must_use]
    pub const fn kind(self) -> MessageKind {
        self.kind
    }

    /// The payload as bytes.
    #[must_use]
    pub const fn payload(self) -> &'a [u8] {
        self.payload
    }

    /// The payload as text; `None` if the message is binary.
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        match self.kind {
            MessageKind::Text => simdutf8::basic::from_utf8(self.payload).ok(),
            MessageKind::Binary => None,
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

/// A whole message that owns its payload and is cheap to clone: what crosses threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMessage {
    /// Text or binary.
    pub kind: MessageKind,
    /// The payload. Of kind text it must be UTF-8; the constructors see to it.
    payload: Bytes,
}

impl OwnedMessage {
    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: MessageKind::Text, payload: Bytes::from(text.into()) }
    }

    /// A binary message.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self { kind: MessageKind::Binary, payload: payload.into() }
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        Self { kind: message.kind(), payload: Bytes::copy_from_slice(message.payload()) }
    }
}

impl From<&str> for OwnedMessage {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for OwnedMessage {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for OwnedMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl From<Bytes> for OwnedMessage {
    fn from(bytes: Bytes) -> Self {
        Self::binary(bytes)
    }
}
