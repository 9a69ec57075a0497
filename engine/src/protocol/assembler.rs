//! From received bytes to messages and control frames.

use std::ops::Range;

use super::close::CloseFrame;
use super::deflate::DeflateAgreement;
use super::error::ProtocolError;
use super::frame::{FrameContext, FrameHeader, MessageKind, Opcode, Role, WholeMessage, decode_header};
use super::mask::{apply_mask, unmask_is_ascii};
use super::partial::{Partial, Progress};
use super::utf8;
use crate::message::MessageStart;

pub use super::partial::{HeapBytes, POOLED_PARTIALS_MAX, POOLED_PAYLOAD_BYTES_MAX, PartialPool};

/// What all decoders of one kind have in common.
#[derive(Clone, Copy, Debug)]
pub struct DecoderConfig {
    /// The end at which we are.
    pub role: Role,
    /// The largest message that is handed out as a whole, in bytes; more is answered by 1009.
    pub message_bytes_max: usize,
    /// The largest message that is handed out in pieces, in bytes; more is answered by 1009. With 0 there are
    /// none: [`Event::Begin`] never comes.
    pub pieces_bytes_max: usize,
    /// The most frames of one message; more are answered by 1009. Proper peers do send tens of
    /// thousands; the bound is against endless empty ones, which no limit on bytes would end.
    pub fragments_max: u32,
    /// How messages may be compressed; it differs from connection to connection.
    pub deflate: DeflateAgreement,
}

impl DecoderConfig {
    /// Before a message. How it is to be handed out is not known, so that the larger limit holds.
    pub(super) const fn context(&self) -> FrameContext {
        let in_pieces = self.pieces_bytes_max > self.message_bytes_max;
        let bytes_max = if in_pieces { self.pieces_bytes_max } else { self.message_bytes_max };
        FrameContext { rsv1_allowed: self.deflate.is_agreed(), ..FrameContext::between_messages(bytes_max) }
    }
}

/// A received buffer and how far it has been read.
///
/// The bytes before [`Self::position`] are done with, and free to be overwritten by the answer. What an event borrows
/// was unmasked where it lay.
pub struct Input<'a> {
    bytes: &'a mut [u8],
    position: usize,
}

impl<'a> Input<'a> {
    /// A buffer of which nothing has been read.
    #[must_use]
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are still to be read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    /// Reads on by `count` bytes, which must be there.
    pub(super) fn take(&mut self, count: usize) -> &mut [u8] {
        let range = self.advance(count);
        &mut self.bytes[range]
    }

    /// Up to `count` bytes that are not read yet.
    pub(super) fn front(&mut self, count: usize) -> &mut [u8] {
        let end = self.position + count.min(self.remaining());
        &mut self.bytes[self.position..end]
    }

    /// Bytes that have been read.
    pub(super) fn at(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }

    /// Reads on by `count` bytes, which must be there, and says where they lie.
    pub(super) fn advance(&mut self, count: usize) -> Range<usize> {
        let start = self.position;
        self.position += count;
        start..self.position
    }
}

/// What the peer has sent. It borrows the received buffer or the decoder, until the next call.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole message.
    Message {
        /// Text, which has been found to be UTF-8, or binary.
        kind: MessageKind,
        /// The unmasked payload, decompressed.
        payload: &'b mut [u8],
        /// Where the payload starts in the input if its frame lies there as a whole: the header,
        /// with the key, directly before it. An answer's header fits into the same place. `None` if
        /// the message came in parts.
        at: Option<usize>,
    },
    /// A message has begun that does not lie in the input as a whole, that is larger than
    /// [`DecoderConfig::message_bytes_max`], or that is compressed. It comes as a [`Self::Message`] when it is
    /// complete, unless the caller asks for [`Self::Piece`]s now, by [`Decoder::deliver_in_pieces`].
    Begin(MessageStart),
    /// The next piece of a message, as its bytes come; control frames may come between two pieces.
    Piece {
        /// The kind of the message. Text has been found to be UTF-8 so far; it may end within a sequence.
        kind: MessageKind,
        /// The unmasked, decompressed bytes, which follow those of the piece before. Only the last piece may be empty.
        bytes: &'b mut [u8],
        /// Whether the message is complete.
        last: bool,
    },
    /// A ping with its payload, to be answered by a pong with the same.
    Ping(&'b [u8]),
    /// A pong with its payload.
    Pong(&'b [u8]),
    /// The peer's close frame. Nothing that follows it may be read (RFC 6455, section 1.4).
    Close(CloseFrame<'b>),
}

/// Turns the bytes of one connection into events.
///
/// Frames that lie in the input as a whole are handed out where they are. State is kept only while
/// the stream stands within a frame or a message, so that a decoder is one pointer otherwise.
#[derive(Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() == size_of::<usize>());

/// Where [`Decoder::advance`] found the next event.
enum Found {
    /// The input is used up.
    Nothing,
    /// In the input, and whether its header lies there, too.
    InPlace { opcode: Opcode, range: Range<usize>, with_header: bool },
    /// In the partial state's message buffer.
    Message(MessageKind),
    /// The start of a message of which more is to come.
    Begin(MessageStart),
    /// A piece of a message, in the input.
    Piece { kind: MessageKind, range: Range<usize>, last: bool },
    /// A message, or a piece of one, in the pool's output buffer.
    Inflated { kind: MessageKind, bytes: usize, piece: Option<bool> },
    /// In the partial state's control buffer.
    Control(Opcode),
}

impl Decoder {
    /// Reads on to the next event; `None` when the input is used up.
    ///
    /// Call it until it returns `None`: only then has all been read, and has what the last event
    /// borrowed gone back to the pool.
    ///
    /// # Errors
    /// The first breach of the protocol or of a limit, as early as the bytes that have come show it; within a
    /// compressed message that is taken whole, when its last byte has come.
    /// The connection is to be closed with [`ProtocolError::close_code`], and the decoder must not
    /// be used again but for [`Self::release`].
    #[inline]
    pub fn next<'b>(
        &'b mut self,
        config: &DecoderConfig,
        pool: &'b mut PartialPool,
        input: &'b mut Input<'_>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if self.partial.is_none() {
            if input.remaining() == 0 {
                return Ok(None);
            }
            let found = WholeMessage::find(input.rest(), config.role, config.message_bytes_max);
            if let Some(whole) = found {
                return take_whole(whole, config.role, input).map(Some);
            }
        }
        self.next_outlined(config, pool, input)
    }

    /// Whether nothing is kept: the stream stands between two messages, and no event that was
    /// handed out borrowed from here since the last call.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// How many bytes of heap are kept for what has come in part.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.heap_bytes().sum()
    }

    /// The same by what they are kept for.
    #[must_use]
    pub fn heap_bytes(&self) -> HeapBytes {
        self.partial.as_ref().map_or(HeapBytes::default(), |partial| partial.heap_bytes())
    }

    /// Has the message that has just begun handed out in pieces: each as soon as its bytes have come, from where
    /// they lie. Nothing of them is kept, whatever the size of the message.
    ///
    /// # Panics
    /// If the last event was not [`Event::Begin`].
    pub fn deliver_in_pieces(&mut self) {
        let partial = self.partial.as_mut().expect("a message has begun");
        partial.deliver_in_pieces();
    }

    /// Takes back what the last event has handed out, as the next call of [`Self::next`] would: for a connection from which
    /// nothing more is decoded for a while.
    pub fn take_back(&mut self, pool: &mut PartialPool) {
        self.release_handed_out(pool);
        if let Some(partial) = &mut self.partial {
            pool.count(partial);
        }
    }

    fn release_handed_out(&mut self, pool: &mut PartialPool) {
        if self.partial.as_mut().is_some_and(|partial| partial.take_back()) {
            self.release_between_messages(pool);
        }
    }

    /// Gives everything back to the pool; for a connection that ends, whatever its state.
    pub fn release(&mut self, pool: &mut PartialPool) {
        if let Some(partial) = self.partial.take() {
            pool.give_back(partial);
        }
    }

    /// All that is not a whole message between two others.
    #[cold]
    #[inline(never)]
    fn next_outlined<'b>(
        &'b mut self,
        config: &DecoderConfig,
        pool: &'b mut PartialPool,
        input: &'b mut Input<'_>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let found = self.advance(config, pool, input);
        if let Some(partial) = &mut self.partial {
            pool.count(partial);
        }
        let found = found?;
        Ok(Some(match (found, &mut self.partial) {
            (Found::InPlace { opcode, range, with_header }, _) => {
                let at = with_header.then_some(range.start);
                let payload = &mut input.bytes[range];
                match opcode.message_kind() {
                    Some(kind) => Event::Message { kind, payload, at },
                    None => control_event(opcode, payload)?,
                }
            }
            (Found::Begin(start), _) => Event::Begin(start),
            (Found::Piece { kind, range, last }, _) => Event::Piece { kind, bytes: &mut input.bytes[range], last },
            (Found::Message(kind), Some(partial)) => Event::Message { kind, payload: partial.payload_mut(), at: None },
            (Found::Inflated { kind, bytes, piece }, _) => {
                let bytes = &mut pool.inflaters.output()[..bytes];
                match piece {
                    None => Event::Message { kind, payload: bytes, at: None },
                    Some(last) => Event::Piece { kind, bytes, last },
                }
            }
            (Found::Control(opcode), Some(partial)) => control_event(opcode, partial.control())?,
            _ => return Ok(None),
        }))
    }

    fn advance(
        &mut self,
        config: &DecoderConfig,
        pool: &mut PartialPool,
        input: &mut Input<'_>,
    ) -> Result<Found, ProtocolError> {
        self.release_handed_out(pool);
        loop {
            if !self.partial.as_ref().is_some_and(|partial| partial.is_within_frame()) {
                let Some((header, with_header)) = self.read_header(config, pool, input)? else {
                    return Ok(Found::Nothing);
                };
                let too_big = ProtocolError::MessageTooBig { bytes_max: config.message_bytes_max };
                let payload_bytes = usize::try_from(header.payload_bytes).map_err(|_| too_big)?;
                let alone = header.fin && header.opcode != Opcode::Continuation;
                let fits = header.opcode.is_control() || payload_bytes <= config.message_bytes_max;
                if alone && fits && !header.rsv1 && payload_bytes <= input.remaining() {
                    self.release_between_messages(pool);
                    let range = input.advance(payload_bytes);
                    unmask_frame(&header, &mut input.bytes[range.clone()])?;
                    return Ok(Found::InPlace { opcode: header.opcode, range, with_header });
                }
                let partial = self.partial.get_or_insert_with(|| pool.take());
                partial.begin_frame(config, &header, payload_bytes)?;
                if config.pieces_bytes_max > 0
                    && let Some(kind) = header.opcode.message_kind()
                {
                    let (frame_bytes, only_frame) = (header.payload_bytes, header.fin);
                    return Ok(Found::Begin(MessageStart { kind, frame_bytes, only_frame, compressed: header.rsv1 }));
                }
            }
            let Some(partial) = &mut self.partial else {
                return Ok(Found::Nothing);
            };
            match partial.continue_frame(config, &mut pool.inflaters, input)? {
                Progress::Starved => return Ok(Found::Nothing),
                Progress::Fragment => {}
                Progress::Message(kind) => return Ok(Found::Message(kind)),
                Progress::Piece { kind, range, last } => return Ok(Found::Piece { kind, range, last }),
                Progress::Inflated { kind, bytes } => return Ok(Found::Inflated { kind, bytes, piece: None }),
                Progress::InflatedPiece { kind, bytes, last } => {
                    return Ok(Found::Inflated { kind, bytes, piece: Some(last) });
                }
                Progress::Control(opcode) => return Ok(Found::Control(opcode)),
            }
        }
    }

    /// The next frame's header, and whether it lies in the input as a whole; `None` if the input
    /// ends before it does.
    fn read_header(
        &mut self,
        config: &DecoderConfig,
        pool: &mut PartialPool,
        input: &mut Input<'_>,
    ) -> Result<Option<(FrameHeader, bool)>, ProtocolError> {
        let context = match &mut self.partial {
            Some(partial) if partial.is_within_header() => {
                let header = partial.continue_header(config, input)?;
                return Ok(header.map(|header| (header, false)));
            }
            Some(partial) => partial.context(config),
            None => config.context(),
        };
        let header = decode_header(input.rest(), config.role, &context)?;
        if let Some(header) = header {
            input.advance(header.header_bytes);
        } else if input.remaining() > 0 {
            self.partial.get_or_insert_with(|| pool.take()).begin_header(input);
        }
        Ok(header.map(|header| (header, true)))
    }

    fn release_between_messages(&mut self, pool: &mut PartialPool) {
        if let Some(partial) = self.partial.take_if(|partial| !partial.is_within_message() && !partial.rest()) {
            pool.give_back(partial);
        }
    }
}

/// The hot path: unmasks and validates a message where it lies.
#[inline(always)]
fn take_whole<'b>(whole: WholeMessage, role: Role, input: &'b mut Input<'_>) -> Result<Event<'b>, ProtocolError> {
    let WholeMessage { kind, header_bytes, payload_bytes } = whole;
    let at = Some(input.position + header_bytes);
    let (header, payload) = input.take(header_bytes + payload_bytes).split_at_mut(header_bytes);
    let known_as_ascii = match (role, header.last_chunk()) {
        (Role::Server, Some(&mask)) => unmask_is_ascii(payload, mask),
        _ => false,
    };
    if kind == MessageKind::Text && !known_as_ascii {
        utf8::validate(payload).map_err(|_| ProtocolError::InvalidUtf8)?;
    }
    Ok(Event::Message { kind, payload, at })
}

/// The same for any frame, at leisure.
fn unmask_frame(header: &FrameHeader, payload: &mut [u8]) -> Result<(), ProtocolError> {
    if let Some(mask) = header.mask {
        apply_mask(payload, mask, 0);
    }
    if header.opcode == Opcode::Text {
        utf8::validate(payload).map_err(|_| ProtocolError::InvalidUtf8)?;
    }
    Ok(())
}

fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        _ => Event::Close(CloseFrame::parse(payload)?),
    })
}

#[cfg(test)]
mod tests;
