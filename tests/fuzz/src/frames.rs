//! The same bytes in the same pieces give the same events in tungstenite, or both refuse them.
//!
//! Where the two differ and both may:
//!
//! - The engine refuses a wrong byte when it comes; tungstenite looks at most of them only once the frame is
//!   complete. So it is given the rest of the frame before it is asked.
//! - A length that is not in its shortest form is an error to the engine (RFC 6455, section 5.2: the minimal
//!   number of bytes must be used), and on a control frame, which needs no longer one, it is one already at the
//!   second byte. tungstenite takes it; what follows is not compared.
//! - A close code that must not be sent is an error to the engine. tungstenite reports a close frame with
//!   1002 and a text of its own in its place, and looks at the reason's UTF-8 first.
//! - Close code 1014 is registered since 2017 (IANA, WebSocket Close Code Number Registry). tungstenite takes
//!   it for one that must not be sent.

use std::io::{self, Read, Write};
use std::ops::Range;

use crore_engine::protocol::{MessageKind, PartialPool, ProtocolError, Role};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use crate::stream::{Case, Owned, Receiver};

/// Ends a frame for tungstenite, whatever of it is missing: a byte that is neither a short length nor a long
/// one, wherever in a header it comes.
const PADDING: u8 = 1;

/// The longest header, in bytes.
const HEADER_BYTES_MAX: usize = 14;

/// A code that is registered, and that tungstenite does not know.
const BAD_GATEWAY: u16 = 1014;

/// The input is a [`Case`], whose choice means nothing.
///
/// # Panics
/// If the two disagree.
pub fn check(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let mut pool = PartialPool::new();
    let mut engine = Receiver::new(case.config, &mut pool);
    let mut other = Other::new(&case);
    let mut stream = case.stream.clone();
    for piece in case.pieces() {
        engine.receive(&mut stream[piece.clone()]);
        other.receive(&case.stream, piece);
        if engine.is_over() {
            break;
        }
        assert_eq!(other.events, engine.events, "after each piece");
        assert!(other.error.is_none(), "only the other refuses it: {:?}", other.error);
    }
    let (events, error) = engine.end();
    match error {
        None => assert_same_end(&other, &events),
        Some(error) => assert_same_error(&mut other, &events, error, case.config.message_bytes_max),
    }
}

/// Both have seen no error; the last event may be a close frame.
fn assert_same_end(other: &Other, events: &[Owned]) {
    if let Some((Owned::Close(Some(BAD_GATEWAY), _), before)) = events.split_last() {
        assert_eq!(other.events.split_last(), Some((&violation(), before)));
        return;
    }
    assert_eq!(other.events, events);
    assert!(other.error.is_none(), "only the other refuses it: {:?}", other.error);
}

fn assert_same_error(other: &mut Other, events: &[Owned], error: ProtocolError, message_bytes_max: usize) {
    let padding = vec![PADDING; HEADER_BYTES_MAX + message_bytes_max];
    other.receive(&padding, 0..padding.len());
    match error {
        ProtocolError::LengthNotMinimal | ProtocolError::ControlTooLong => {
            assert!(other.events.starts_with(events), "before the long form: {:?}, {events:?}", other.events);
            return;
        }
        ProtocolError::CloseCodeInvalid(_) if other.error.is_none() => {
            assert_eq!(other.events.split_last(), Some((&violation(), events)));
            return;
        }
        _ => assert_eq!(other.events, events, "before {error}"),
    }
    let same = match &other.error {
        Some(Error::Utf8(_)) => {
            matches!(error, ProtocolError::InvalidUtf8 | ProtocolError::CloseCodeInvalid(_))
        }
        // A frame can be too long as well as wrong; the engine sees first what comes first.
        Some(Error::Capacity(_)) => error != ProtocolError::InvalidUtf8,
        Some(Error::Protocol(_)) => error.close_code() == 1002,
        _ => false,
    };
    assert!(same, "the engine says {error:?}, the other {:?}", other.error);
}

/// What tungstenite makes of a close code that must not be sent.
fn violation() -> Owned {
    Owned::Close(Some(1002), "Protocol violation".to_owned())
}

/// tungstenite at the receiving end of a stream.
struct Other {
    context: WebSocketContext,
    events: Vec<Owned>,
    error: Option<Error>,
}

impl Other {
    fn new(case: &Case) -> Self {
        let limit = Some(case.config.message_bytes_max);
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_message_size(limit)
            .max_frame_size(limit);
        let role = match case.config.role {
            Role::Server => tungstenite::protocol::Role::Server,
            Role::Client => tungstenite::protocol::Role::Client,
        };
        Self { context: WebSocketContext::new(role, Some(config)), events: Vec::new(), error: None }
    }

    fn receive(&mut self, stream: &[u8], piece: Range<usize>) {
        let mut wire = Wire(&stream[piece]);
        while self.error.is_none() && !matches!(self.events.last(), Some(Owned::Close(..))) {
            match self.context.read(&mut wire) {
                Ok(message) => self.events.push(owned(message)),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.error = Some(error),
            }
        }
    }
}

fn owned(message: Message) -> Owned {
    match message {
        Message::Text(text) => Owned::Message(MessageKind::Text, text.as_bytes().to_vec()),
        Message::Binary(bytes) => Owned::Message(MessageKind::Binary, bytes.to_vec()),
        Message::Ping(bytes) => Owned::Ping(bytes.to_vec()),
        Message::Pong(bytes) => Owned::Pong(bytes.to_vec()),
        Message::Close(Some(close)) => Owned::Close(Some(close.code.into()), close.reason.to_string()),
        Message::Close(None) => Owned::Close(None, String::new()),
        Message::Frame(_) => unreachable!("a reader is given messages"),
    }
}

/// A socket that has received one piece, and takes whatever is written.
struct Wire<'s>(&'s [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
