//! One connection of the client: 64 bytes, a pure function of the bytes that come.

use crore_engine::driver::Socket;

use super::ProtocolError;
use super::channels;
use super::deflate::Takeover;
use super::frame::{Header, STAMP_BYTES, Shape, Stamp, opcode};
use super::upgrade;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Not there.
    #[default]
    Vacant,
    /// The upgrade was sent, its answer has not come.
    Opening,
    /// The server has turned it away, and its end has not come.
    TurnedAway,
    /// Open.
    Open,
    /// This client has sent its close frame.
    Closing,
    /// As before, and the kernel works on its shutdown: not to be closed now.
    ShuttingDown,
    /// As before, and the stream has ended.
    Ended,
}

/// A connection. One cache line, so that a load on thousands of them stays in the cache.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Frames to be sent: kept from one send to the next, and empty while the kernel has them.
    pub(crate) frames: Vec<u8>,
    /// What few connections have at any time.
    rare: Option<Box<Rare>>,
    /// While it opens: when it began to. Later: the stamp of the message whose payload is still coming.
    pub(crate) time_ns: u64,
    pub(crate) socket: Socket,
    /// Messages that were sent.
    pub(crate) sent: u32,
    /// Messages that have come.
    received: u32,
    /// Messages that are to be sent.
    pub(crate) due: u32,
    /// Payload that is still to come.
    payload_left: u32,
    /// Lives of this slot: tells the completions of a former life.
    pub(crate) generation: u16,
    pub(crate) state: State,
    /// Whether the kernel has a send of this connection.
    pub(crate) sending: bool,
}

const _: () = assert!(size_of::<Connection>() <= 64, "a connection fits a cache line");

#[derive(Debug, Default)]
struct Rare {
    /// Bytes of a head, a header or a stamp that was cut by the end of a buffer.
    inbound: Vec<u8>,
    /// Whole frames to be sent: control frames, and texts.
    outbound: Vec<u8>,
}

/// What is known of a connection besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// See [`Connection::nonce`].
    pub(crate) nonce: u64,
    /// The messages of the load.
    pub(crate) shape: Shape,
    /// Whether the server has to agree to compression.
    pub(crate) compress: Option<Takeover>,
    /// Whether compressed messages are looked into.
    pub(crate) sampled: bool,
}

/// What came from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'bytes> {
    /// The upgrade was answered as it should be.
    Opened,
    /// A message of the load came back, all of it.
    Message(Stamp),
    /// A compressed message that is to be looked into: its number and its payload.
    Compressed(u32, &'bytes [u8]),
    /// A message that is not of the load's shape, such as a welcome.
    Unsolicited(&'bytes [u8]),
    /// A ping, to be answered.
    Ping(&'bytes [u8]),
    /// A close frame that was not asked for, with its code (1005 if it has none).
    Closing(u16),
    /// The answer to the close frame that was sent.
    Closed,
}

impl Connection {
    /// A slot without a connection.
    pub(crate) fn vacant() -> Self {
        Self {
            frames: Vec::new(),
            rare: None,
            time_ns: 0,
            socket: Socket(0),
            sent: 0,
            received: 0,
            due: 0,
            payload_left: 0,
            generation: 0,
            state: State::Vacant,
            sending: false,
        }
    }

    /// Starts a new life on `socket`.
    pub(crate) fn open(&mut self, socket: Socket, now_ns: u64) {
        let (frames, generation) = (std::mem::take(&mut self.frames), self.generation.wrapping_add(1));
        *self = Self { socket, frames, generation, time_ns: now_ns, state: State::Opening, ..Self::vacant() };
    }

    /// A number that no other life of any slot has: the key of the handshake follows from it.
    pub(crate) fn nonce(&self, slot: u32) -> u64 {
        u64::from(self.generation) << 32 | u64::from(slot)
    }

    /// Takes bytes in, and tells `handle` what they hold, in order.
    ///
    /// # Errors
    /// The server has broken the protocol, or answered what was not asked.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        life: Life,
        mut handle: impl FnMut(&mut Self, Inbound<'_>),
    ) -> Result<(), ProtocolError> {
        let Some(mut kept) = self.take_inbound() else {
            let rest = self.parse(bytes, life, &mut handle)?;
            if !rest.is_empty() {
                self.rare().inbound.extend_from_slice(rest);
            }
            return Ok(());
        };
        kept.extend_from_slice(bytes);
        let rest = self.parse(&kept, life, &mut handle)?.len();
        kept.drain(..kept.len() - rest);
        if !kept.is_empty() {
            self.rare().inbound = kept;
        }
        Ok(())
    }

    /// Queues a frame behind the send that is under way.
    pub(crate) fn queue_frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.rare().outbound);
    }

    /// The frames that are queued, to be sent next.
    pub(crate) fn take_queued(&mut self) -> Option<Vec<u8>> {
        let rare = self.rare.as_mut()?;
        let outbound = std::mem::take(&mut rare.outbound);
        if rare.inbound.is_empty() {
            self.rare = None;
        }
        (!outbound.is_empty()).then_some(outbound)
    }

    fn take_inbound(&mut self) -> Option<Vec<u8>> {
        let rare = self.rare.as_mut()?;
        let inbound = std::mem::take(&mut rare.inbound);
        if rare.outbound.is_empty() {
            self.rare = None;
        }
        (!inbound.is_empty()).then_some(inbound)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Handles everything that is complete and gives back the rest.
    fn parse<'bytes>(
        &mut self,
        mut bytes: &'bytes [u8],
        life: Life,
        handle: &mut impl FnMut(&mut Self, Inbound<'_>),
    ) -> Result<&'bytes [u8], ProtocolError> {
        let shape = life.shape;
        if self.state == State::Opening {
            let Some(length) = upgrade::response(bytes, life.nonce, life.compress)? else { return Ok(bytes) };
            self.state = State::Open;
            handle(self, Inbound::Opened);
            bytes = &bytes[length..];
        }
        loop {
            if self.payload_left > 0 {
                let count = bytes.len().min(self.payload_left as usize);
                bytes = &bytes[count..];
                self.payload_left -= u32::try_from(count).unwrap_or(u32::MAX);
                if self.payload_left > 0 {
                    return Ok(bytes);
                }
                self.finish_message(handle);
            }
            let Some(header) = Header::decode(bytes)? else { return Ok(bytes) };
            let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
            let payload = &bytes[header.bytes..];
            if header.compressed {
                if life.compress.is_none() || header.opcode != shape.opcode {
                    return Err(ProtocolError::Extension);
                }
                if life.sampled {
                    let Some(whole) = payload.get(..payload_bytes) else { return Ok(bytes) };
                    let sequence = self.received & Stamp::SEQUENCE_MASK;
                    self.received = self.received.wrapping_add(1);
                    handle(self, Inbound::Compressed(sequence, whole));
                    bytes = &payload[payload_bytes..];
                } else {
                    self.time_ns = Stamp::UNSEEN_NS;
                    self.payload_left = u32::try_from(payload_bytes).map_err(|_| ProtocolError::Changed)?;
                    bytes = payload;
                }
                continue;
            }
            // Of a message of the load its stamp has to be there, of anything else all of it. What stands around the data
            // of a channel's message is the server's affair.
            let expected =
                shape.channels.is_none() && header.opcode == shape.opcode && payload_bytes == shape.payload_bytes;
            let needed = if expected { STAMP_BYTES } else { payload_bytes };
            let data_bytes = if shape.channels.is_some() { shape.payload_bytes } else { 0 };
            if needed > UNSOLICITED_BYTES_MAX + data_bytes {
                return Err(ProtocolError::Unsolicited(header.payload_bytes));
            }
            if payload.len() < needed {
                return Ok(bytes);
            }
            if expected {
                self.begin_message(Stamp::decode(payload))?;
                let left = payload_bytes - payload.len().min(payload_bytes);
                bytes = &payload[(payload_bytes - left)..];
                if left == 0 {
                    self.finish_message(handle);
                }
                self.payload_left = u32::try_from(left).unwrap_or(u32::MAX);
                continue;
            }
            let stamp = shape.channels.and_then(|_| channels::stamp(&payload[..needed]));
            match header.opcode {
                opcode::TEXT if let Some(stamp) = stamp => {
                    self.begin_message(stamp)?;
                    self.finish_message(handle);
                }
                opcode::TEXT | opcode::BINARY => handle(self, Inbound::Unsolicited(&payload[..needed])),
                opcode::PING => handle(self, Inbound::Ping(&payload[..needed])),
                opcode::CLOSE if self.state == State::Open => {
                    let code = payload[..needed].first_chunk();
                    handle(self, Inbound::Closing(code.map_or(NO_STATUS, |code| u16::from_be_bytes(*code))));
                }
                opcode::CLOSE => handle(self, Inbound::Closed),
                opcode::PONG => {}
                other => return Err(ProtocolError::Opcode(other)),
            }
            bytes = &payload[needed..];
        }
    }

    /// Checks that this is the next message.
    fn begin_message(&mut self, stamp: Stamp) -> Result<(), ProtocolError> {
        let expected = self.received & Stamp::SEQUENCE_MASK;
        if stamp.sequence != expected {
            return Err(ProtocolError::Sequence { expected, came: stamp.sequence });
        }
        self.time_ns = stamp.time_ns;
        Ok(())
    }

    fn finish_message(&mut self, handle: &mut impl FnMut(&mut Self, Inbound<'_>)) {
        let stamp = Stamp { sequence: self.received & Stamp::SEQUENCE_MASK, time_ns: self.time_ns };
        self.received = self.received.wrapping_add(1);
        handle(self, Inbound::Message(stamp));
    }
}

/// The code of a close frame that has none (RFC 6455, section 7.4.1).
pub(super) const NO_STATUS: u16 = 1005;

/// Bytes of a message that the load did not send: a welcome fits, a mistake does not.
const UNSOLICITED_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::payload::Payload;

    const SHAPE: Shape = Shape { opcode: opcode::BINARY, payload_bytes: 64, payload: Payload::Filler, channels: None };

    /// What a server would answer to `count` messages of `shape`.
    fn echo(shape: Shape, count: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sequence in 0..count {
            let mut frame = Vec::new();
            shape.write(&mut frame, 0, 1, [0; 4], |_| Stamp { sequence, time_ns: u64::from(sequence) * 10 });
            let header = frame.len() - shape.payload_bytes;
            bytes.extend([frame[0], frame[1] & 0x7F]);
            bytes.extend(&frame[2..header - 4]);
            bytes.extend(&frame[header..]);
        }
        bytes
    }

    fn open() -> Connection {
        let mut connection = Connection::vacant();
        connection.open(Socket(3), 0);
        connection.state = State::Open;
        connection
    }

    /// Feeds `bytes` in pieces of `piece` and writes down what came of it.
    fn feed(
        connection: &mut Connection,
        bytes: &[u8],
        piece: usize,
        shape: Shape,
    ) -> Result<Vec<String>, ProtocolError> {
        let mut seen = Vec::new();
        for part in bytes.chunks(piece) {
            let life = Life { nonce: 0, shape, compress: None, sampled: false };
            connection.receive(part, life, |_, inbound| seen.push(format!("{inbound:?}")))?;
        }
        Ok(seen)
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        for payload_bytes in [12, 64, 126, 70_000] {
            let shape = Shape { payload_bytes, ..SHAPE };
            let mut bytes = echo(shape, 3);
            bytes.splice(0..0, [0x81, 2, b'h', b'i', 0x89, 1, 7]);
            bytes.extend([0x8A, 0, 0x81, 0]);
            let whole = feed(&mut open(), &bytes, bytes.len(), shape).unwrap();
            assert_eq!(whole.len(), 6, "{whole:?}");
            assert_eq!(whole[..2], ["Unsolicited([104, 105])", "Ping([7])"]);
            assert_eq!(whole[4], "Message(Stamp { sequence: 2, time_ns: 20 })");
            for piece in [1, 2, 3, 7, 63, 1000] {
                assert_eq!(feed(&mut open(), &bytes, piece, shape).unwrap(), whole, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_lost_or_doubled_message_is_found() {
        let frame = 2 + SHAPE.payload_bytes;
        let bytes = echo(SHAPE, 3);
        let lost = [&bytes[..frame], &bytes[2 * frame..]].concat();
        assert_eq!(feed(&mut open(), &lost, 1000, SHAPE), Err(ProtocolError::Sequence { expected: 1, came: 2 }));
        let doubled = [&bytes[..frame], &bytes[..frame]].concat();
        assert_eq!(feed(&mut open(), &doubled, 1000, SHAPE), Err(ProtocolError::Sequence { expected: 1, came: 0 }));
    }

    #[test]
    fn a_close_is_an_answer_or_an_event() {
        let bytes = [0x88, 2, 3, 232];
        assert_eq!(feed(&mut open(), &bytes, 1, SHAPE).unwrap(), ["Closing(1000)"]);
        // What follows is not of the reason.
        assert_eq!(feed(&mut open(), &[0x88, 0, 0x8A, 0], 4, SHAPE).unwrap(), ["Closing(1005)"]);
        let mut closing = open();
        closing.state = State::Closing;
        assert_eq!(feed(&mut closing, &bytes, 1, SHAPE).unwrap(), ["Closed"]);
    }

    #[test]
    fn a_huge_message_that_nobody_asked_for_is_refused() {
        let bytes = [0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0];
        assert_eq!(feed(&mut open(), &bytes, 1000, SHAPE), Err(ProtocolError::Unsolicited(1 << 30)));
    }

    #[test]
    fn queued_frames_wait_for_their_turn_once() {
        let mut connection = open();
        connection.queue_frame(|frames| frames.push(1));
        connection.queue_frame(|frames| frames.push(2));
        assert_eq!(connection.take_queued(), Some(vec![1, 2]));
        assert_eq!(connection.take_queued(), None);
    }

    #[test]
    fn compressed_messages_are_counted_and_those_of_a_sample_handed_out() {
        let bytes = [&[0xC2, 3, 1, 2, 3, 0xC2, 126, 0, 200][..], &[7; 200], &[0x82, 0]].concat();
        for sampled in [false, true] {
            for piece in [1, 5, 1000] {
                let (mut connection, mut seen) = (open(), Vec::new());
                let life = Life { nonce: 0, shape: SHAPE, compress: Some(Takeover::None), sampled };
                for part in bytes.chunks(piece) {
                    let handle = |_: &mut Connection, inbound: Inbound<'_>| match inbound {
                        Inbound::Compressed(sequence, payload) => seen.push((sequence, payload.len())),
                        Inbound::Message(Stamp { sequence, time_ns: Stamp::UNSEEN_NS }) => seen.push((sequence, 0)),
                        other => assert_eq!(other, Inbound::Unsolicited(&[])),
                    };
                    connection.receive(part, life, handle).expect("it was agreed on");
                }
                assert_eq!(seen, if sampled { [(0, 3), (1, 200)] } else { [(0, 0), (1, 0)] });
            }
        }
        assert_eq!(feed(&mut open(), &bytes, 1000, SHAPE), Err(ProtocolError::Extension));
    }
}
