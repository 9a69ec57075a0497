//! A client: what it writes, and how it reads what comes.

use std::collections::VecDeque;

use crore_engine::MessageKind;
use crore_engine::protocol::Opcode;
use crore_engine::protocol::frame::append_masked_fragment;
use crore_tests::deflate::{Contexts, RSV1};
use fastrand::Rng;

use super::message::{EMPTY, Label, Wish, empty_stream};
use super::socket::End;

/// What a client is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It speaks WebSocket.
    Speaker,
    /// It asks for a page.
    Visitor,
    /// It sends half a request.
    Staller,
    /// It sends what is no request, or one that is too long.
    Babbler { status: u16 },
}

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AtOnce,
    /// Some bytes now and then.
    Slowly,
    /// Not before all is said.
    Never,
}

pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) reading: Reading,
    /// What it has still to write of its request.
    pub(crate) request: Vec<u8>,
    reader: Reader,
    /// Of permessage-deflate, once it is agreed on.
    compression: Option<Contexts>,
    /// It has sent its close frame: it says nothing more.
    pub(crate) has_closed: bool,
    /// The code of the server's close frame, 0 if it had none.
    pub(crate) heard_close: Option<u16>,
    /// The status of the server's answer.
    pub(crate) status: Option<u16>,
    /// The close code that its breach of the protocol asks for.
    pub(crate) breach: Option<u16>,
    /// It does not answer close frames and pings any more.
    pub(crate) deaf: bool,
    pub(crate) ended: Option<End>,
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What clients offer: what is not compressed by our side may use any window.
const OFFERS: [&str; 6] = [
    "",
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
];

/// What belongs to the key (RFC 6455, section 1.3).
const ACCEPT: &[u8] = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

impl Peer {
    pub(crate) fn new(rng: &mut Rng, number: usize, head_bytes_max: usize) -> Self {
        let offer = OFFERS[rng.usize(..OFFERS.len())];
        let offer = if offer.is_empty() { String::new() } else { format!("Sec-WebSocket-Extensions: {offer}\r\n") };
        let upgrade = format!(
            "GET /{number} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        let (kind, request) = match rng.u8(..40) {
            0 => (Kind::Visitor, format!("GET /{number}?page HTTP/1.1\r\nHost: a\r\n\r\n")),
            1 => (Kind::Staller, upgrade[..rng.usize(..upgrade.len())].to_owned()),
            2 => (Kind::Babbler { status: 400 }, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
            3 => (
                Kind::Babbler { status: 431 },
                upgrade.replace("Host: a", &format!("Host: {}", "x".repeat(head_bytes_max))),
            ),
            4 => (Kind::Babbler { status: 426 }, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")),
            _ => (Kind::Speaker, upgrade),
        };
        Self {
            kind,
            reading: Reading::AtOnce,
            request: request.into_bytes(),
            reader: Reader::default(),
            compression: None,
            has_closed: false,
            heard_close: None,
            status: None,
            breach: None,
            deaf: false,
            ended: None,
        }
    }

    /// Whether it may send messages: also before it has seen the answer.
    pub(crate) fn may_speak(&self) -> bool {
        self.kind == Kind::Speaker && self.request.is_empty() && !self.has_closed && self.breach.is_none()
    }

    pub(crate) fn receives(&mut self, bytes: &[u8]) {
        self.reader.bytes.extend_from_slice(bytes);
    }

    /// The next whole thing that has come.
    pub(crate) fn next(&mut self) -> Option<Heard> {
        if self.status.is_none() {
            let (status, upgraded, compression) = self.reader.head()?;
            self.compression = compression;
            assert!(upgraded || self.kind != Kind::Speaker || status != 101, "the accept value is another's");
            self.status = Some(status);
            return Some(Heard::Answer(status));
        }
        if self.status != Some(101) {
            self.reader.bytes.clear();
            return None;
        }
        if let Some(heard) = self.reader.joined.pop_front() {
            return Some(heard);
        }
        let heard = self.reader.frame(self.compression.as_mut())?;
        assert!(self.heard_close.is_none(), "something follows the close frame: {heard:?}");
        if let Heard::Close(code) = heard {
            self.heard_close = Some(code);
        }
        Some(heard)
    }

    /// What a message of this peer is sent as, and whether that is compressed.
    pub(crate) fn payload(&mut self, rng: &mut Rng, message: Vec<u8>) -> (Vec<u8>, bool) {
        match &mut self.compression {
            Some(contexts) if rng.bool() => (contexts.compress(&message), true),
            _ => (message, false),
        }
    }

    /// Whether it has been sent part of something. A connection that ends so has been cut.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.reader.position < self.reader.bytes.len()
    }
}

/// What stands around messages that are joined: no messages have it, which are ASCII.
pub(crate) const PREFIX: &str = "«";
pub(crate) const SEPARATOR: &str = "¦";
pub(crate) const SUFFIX: &str = "»";

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Answer(u16),
    Message {
        stream: u8,
        number: u32,
    },
    Ping([u8; 8]),
    Pong,
    /// With its code, 0 if there is none.
    Close(u16),
}

/// What has come and is not whole yet. It reads frames on its own, without the engine's decoder.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
    position: usize,
    /// What came joined with a message, behind it.
    joined: VecDeque<Heard>,
}

impl Reader {
    /// The status of the answer, whether it has the right accept value, and what it agrees to.
    fn head(&mut self) -> Option<(u16, bool, Option<Contexts>)> {
        let end = self.bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let head = &self.bytes[..end];
        assert!(head.starts_with(b"HTTP/1.1 "), "an answer is HTTP: {}", String::from_utf8_lossy(head));
        let status = std::str::from_utf8(&head[9..12]).ok().and_then(|digits| digits.parse().ok()).expect("a status");
        let upgraded = head.windows(ACCEPT.len()).any(|line| line == ACCEPT);
        let text = String::from_utf8_lossy(head);
        let agreed = text.lines().find(|line| line.contains("permessage-deflate")).map(Contexts::new);
        self.position = end;
        Some((status, upgraded, agreed))
    }

    fn frame(&mut self, compression: Option<&mut Contexts>) -> Option<Heard> {
        let rest = &self.bytes[self.position..];
        let [first, second, ..] = *rest else {
            if rest.is_empty() {
                self.bytes.clear();
                self.position = 0;
            }
            return None;
        };
        let (length, header) = match second {
            126 => (usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().expect("two"))), 4),
            127 => {
                (usize::try_from(u64::from_be_bytes(rest.get(2..10)?.try_into().expect("eight"))).expect("short"), 10)
            }
            short => (usize::from(short), 2),
        };
        let payload = rest.get(header..header + length)?;
        let decompressed;
        let payload = match compression {
            Some(contexts) if first & RSV1 != 0 => {
                decompressed = contexts.decompress(payload.to_vec());
                &decompressed
            }
            _ => {
                assert_eq!(first & 0xf0, 0x80, "a whole frame, without reserved bits");
                payload
            }
        };
        let mut joined = VecDeque::new();
        let heard = match first & 0x0f {
            1 if payload.starts_with(PREFIX.as_bytes()) => {
                joined = several(payload);
                joined.pop_front().expect("at least two")
            }
            1 => message(MessageKind::Text, payload),
            2 => message(MessageKind::Binary, payload),
            8 => Heard::Close(payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))),
            9 => Heard::Ping(payload.try_into().expect("a heartbeat has 8 bytes")),
            10 => Heard::Pong,
            other => panic!("opcode {other} from the server"),
        };
        self.joined = joined;
        self.position += header + length;
        Some(heard)
    }
}

/// The messages that have come as one.
fn several(payload: &[u8]) -> VecDeque<Heard> {
    let text = std::str::from_utf8(payload).expect("what is joined is text");
    let list = text.strip_prefix(PREFIX).and_then(|text| text.strip_suffix(SUFFIX)).expect("what begins it ends it");
    let joined: VecDeque<Heard> = list.split(SEPARATOR).map(|one| message(MessageKind::Text, one.as_bytes())).collect();
    assert!(joined.len() > 1, "what is alone is not joined");
    joined
}

fn message(kind: MessageKind, payload: &[u8]) -> Heard {
    if payload.is_empty() {
        return Heard::Message { stream: empty_stream(), number: EMPTY };
    }
    let Label { stream, number, wish, .. } = Label::read(payload);
    assert_eq!(kind, kind_of(number, wish), "the kind of message {number}");
    Heard::Message { stream, number }
}

/// Peers send every other message as text, the application and the others none.
pub(crate) const fn kind_of(number: u32, wish: Wish) -> MessageKind {
    if number.is_multiple_of(2) && !matches!(wish, Wish::Ignore) { MessageKind::Text } else { MessageKind::Binary }
}

/// Writes a message as a client may: whole, or in fragments, with pings between them.
pub(crate) fn write_message(
    rng: &mut Rng,
    out: &mut Vec<u8>,
    kind: MessageKind,
    (payload, compressed): &(Vec<u8>, bool),
    fragments_max: u32,
) {
    let begin = out.len();
    let fragments = if rng.u8(..) < 60 { rng.usize(1..=fragments_max as usize) } else { 1 };
    let size = payload.len().div_ceil(fragments).max(1);
    let last = payload.len().div_ceil(size).max(1) - 1;
    for index in 0..=last {
        let piece = &payload[(index * size).min(payload.len())..((index + 1) * size).min(payload.len())];
        let opcode = if index == 0 { Opcode::from(kind) } else { Opcode::Continuation };
        append_masked_fragment(out, opcode, index == last, piece, rng.u32(..).to_be_bytes());
        if rng.u8(..) < 20 {
            append_masked_fragment(out, Opcode::Ping, true, b"still there?", rng.u32(..).to_be_bytes());
        }
    }
    if *compressed {
        out[begin] |= RSV1;
    }
}

pub(crate) fn write_control(rng: &mut Rng, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    append_masked_fragment(out, opcode, true, payload, rng.u32(..).to_be_bytes());
}

/// Writes what breaks the protocol, and says with which code it is answered.
pub(crate) fn write_breach(rng: &mut Rng, out: &mut Vec<u8>, message_bytes_max: usize, fragments_max: u32) -> u16 {
    let mask = rng.u32(..).to_be_bytes();
    match rng.u8(..9) {
        // A frame without a mask.
        0 => out.extend_from_slice(&[0x82, 0x01, 0x00]),
        // A reserved opcode, a reserved bit.
        1 => out.extend_from_slice(&[0x83, 0x80]),
        2 => out.extend_from_slice(&[0xa2, 0x80]),
        // A control frame in two parts, or too long.
        3 => append_masked_fragment(out, Opcode::Ping, false, b"", mask),
        4 => append_masked_fragment(out, Opcode::Ping, true, &[0; 126], mask),
        // A continuation of nothing.
        5 => append_masked_fragment(out, Opcode::Continuation, true, b"", mask),
        // A close frame with half a code.
        6 => append_masked_fragment(out, Opcode::Close, true, &[3], mask),
        // What is no text, and what is too much.
        7 => {
            append_masked_fragment(out, Opcode::Text, true, &[b'x', 0xff, b'x'], mask);
            return 1007;
        }
        8 if rng.bool() => {
            out.extend_from_slice(&[0x82, 0xff]);
            out.extend_from_slice(&(message_bytes_max as u64 + 70_000).to_be_bytes());
            return 1009;
        }
        _ => {
            append_masked_fragment(out, Opcode::Binary, false, b"", mask);
            for _ in 0..fragments_max {
                append_masked_fragment(out, Opcode::Continuation, false, b"", mask);
            }
            return 1009;
        }
    }
    1002
}

/// The number of the message in a frame of the server.
pub(crate) fn parcel_number(frame: &[u8]) -> u32 {
    let mut reader = Reader { bytes: frame.to_vec(), ..Reader::default() };
    match reader.frame(None) {
        Some(Heard::Message { number, .. }) => number,
        other => panic!("{other:?} is no message"),
    }
}
