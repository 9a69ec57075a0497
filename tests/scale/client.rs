//! A client in 12 bytes: what it says is made when it is received, and what it hears is compared and not kept.

use std::time::Duration;

use crore_engine::driver::Token;
use crore_tests::frame::{BINARY, CLOSE, MASK, PING, PONG, TEXT};

/// Everyone has the same key and so the same answer (RFC 6455, section 1.3).
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Going away (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// What everyone is told.
pub(crate) const TO_ALL: &str = "all";

/// What waits to be received from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Nothing,
    /// The upgrade.
    Request,
    /// The number of its topic.
    Subscribe,
    /// The answer to a ping of this moment.
    Pong,
    /// The answer to a close frame.
    Close,
    /// It is no longer there.
    Reset,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Away,
    Opening,
    Open,
    /// It has been told to go.
    Closed,
}

/// What has come.
pub(crate) enum Heard {
    Upgraded,
    Ping,
    Message,
    Close,
}

pub(crate) struct Client {
    token: u32,
    topic: u32,
    state: State,
    pub(crate) says: Says,
    /// A poll is armed.
    pub(crate) polled: bool,
    /// Messages and pings since it was last asked.
    heard: u8,
}

const _: () = assert!(size_of::<Client>() <= 12);

impl Client {
    /// One that has not connected and will subscribe to this topic.
    pub(crate) fn new(topic: u32) -> Self {
        Self { token: 0, topic, state: State::Away, says: Says::Nothing, polled: false, heard: 0 }
    }

    pub(crate) fn token(&self) -> Token {
        Token::new(u64::from(self.token))
    }

    pub(crate) fn set_token(&mut self, token: Token) {
        self.token = u32::try_from(token.value()).expect("a slot");
    }

    /// Connects and sends its request.
    pub(crate) fn connect(&mut self) {
        assert_eq!(self.state, State::Away, "it is still there");
        (self.state, self.says) = (State::Opening, Says::Request);
    }

    /// The server has closed the socket.
    pub(crate) fn close(&mut self) {
        assert!(self.state != State::Away, "closed twice");
        assert!(!self.polled, "closed under a request");
        (self.state, self.says) = (State::Away, Says::Nothing);
    }

    /// Messages and pings since this was last asked.
    pub(crate) fn take_heard(&mut self) -> u8 {
        std::mem::take(&mut self.heard)
    }

    /// Writes what it says at the front of a receive buffer; returns the number of bytes.
    pub(crate) fn write(&self, says: Says, now: Duration, buffer: &mut [u8]) -> usize {
        match says {
            Says::Request => {
                buffer[..REQUEST.len()].copy_from_slice(REQUEST);
                REQUEST.len()
            }
            Says::Subscribe => write_frame(buffer, BINARY, &self.topic.to_be_bytes()),
            Says::Pong => write_frame(buffer, PONG, &ping_payload(now)),
            Says::Close => write_frame(buffer, CLOSE, &GOING_AWAY.to_be_bytes()),
            Says::Nothing | Says::Reset => unreachable!("no bytes"),
        }
    }

    /// Takes what has come: one send is one frame, and the right one.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Duration) -> Heard {
        match (self.state, bytes) {
            (State::Opening, _) => {
                assert_eq!(bytes, ANSWER, "the answer to an upgrade");
                self.state = State::Open;
                Heard::Upgraded
            }
            (State::Open, [PING, 8, payload @ ..]) => {
                assert_eq!(payload, ping_payload(now));
                self.heard += 1;
                Heard::Ping
            }
            (State::Open, [BINARY, 4, payload @ ..]) => {
                assert_eq!(payload, self.topic.to_be_bytes(), "a message of another topic");
                self.heard += 1;
                Heard::Message
            }
            (State::Open, [TEXT, 3, payload @ ..]) => {
                assert_eq!(payload, TO_ALL.as_bytes());
                self.heard += 1;
                Heard::Message
            }
            (State::Open, [CLOSE, length, code @ .., _]) if code.starts_with(&GOING_AWAY.to_be_bytes()) => {
                assert_eq!(usize::from(*length) + 2, bytes.len());
                self.state = State::Closed;
                Heard::Close
            }
            (state, _) => panic!("{bytes:02x?} for a client that is {state:?}"),
        }
    }
}

/// Writes a short masked frame without an allocation, since those of the worker are counted; returns its length.
fn write_frame(buffer: &mut [u8], first: u8, payload: &[u8]) -> usize {
    const HEADER_BYTES: usize = 6;
    buffer[0] = first;
    buffer[1] = 0x80 | u8::try_from(payload.len()).expect("a short payload");
    buffer[2..HEADER_BYTES].copy_from_slice(&MASK);
    for (index, byte) in payload.iter().enumerate() {
        buffer[HEADER_BYTES + index] = byte ^ MASK[index % MASK.len()];
    }
    HEADER_BYTES + payload.len()
}

/// The engine's clock in nanoseconds.
fn ping_payload(now: Duration) -> [u8; 8] {
    u64::try_from(now.as_nanos()).expect("hours").to_be_bytes()
}
