//! What is kept of a message or a frame that has come in part, and the pool that it comes from.

use std::ops::Range;

use super::assembler::{DecoderConfig, Input};
use super::deflate::{Decompressed, Inflater, Inflaters, Window};
use super::error::ProtocolError;
use super::frame::{
    CONTROL_PAYLOAD_BYTES_MAX, FrameContext, FrameHeader, HEADER_BYTES_MAX, MessageKind, Opcode, compressed_bytes_max,
    decode_header,
};
use super::mask::{append_unmasked, apply_mask, rotate};
use super::utf8::Utf8Validator;
use crate::free_list::FreeList;
use crate::limits::RECEIVE_BUFFER_BYTES;

mod compressed;

/// The smallest buffer of a message in parts: below it, growing costs more than it saves.
const PAYLOAD_CAPACITY_MIN: usize = 512;
/// Partials that a pool keeps: connections of one worker that are within a message at one time, in
/// traffic that is cut often.
pub const POOLED_PARTIALS_MAX: usize = 64;
/// The largest buffer that a pooled partial keeps; larger ones go back to the allocator, since a
/// burst of large messages must not hold memory for ever.
pub const POOLED_PAYLOAD_BYTES_MAX: usize = 16 * 1024;

// One megabyte, and the partials themselves, is what a worker may keep idle.
const _: () = assert!(POOLED_PARTIALS_MAX * POOLED_PAYLOAD_BYTES_MAX <= 1 << 20);

/// The frame that is being received.
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// The key, rotated so that it applies from the next byte on.
    mask: Option<[u8; 4]>,
    missing_bytes: usize,
    /// Bytes at the front of the input that are unmasked already, and wait to be decompressed piece by piece.
    unmasked_bytes: usize,
}

/// How far a frame came.
pub(super) enum Progress {
    /// The input is used up.
    Starved,
    /// A fragment is complete, its message is not.
    Fragment,
    /// A message is complete, in [`Partial::payload`].
    Message(MessageKind),
    /// A piece of the message lies in the input.
    Piece { kind: MessageKind, range: Range<usize>, last: bool },
    /// A message is complete, in the pool's output buffer.
    Inflated { kind: MessageKind, bytes: usize },
    /// A piece of the message lies in the pool's output buffer.
    InflatedPiece { kind: MessageKind, bytes: usize, last: bool },
    /// A control frame is complete, in [`Partial::control`].
    Control(Opcode),
}

/// The state of a stream that stands within a message or a frame.
pub(super) struct Partial {
    /// The message under way, unless there is only a header or a control frame.
    message: Option<MessageKind>,
    /// Whether the message is handed out in pieces, and not kept in [`Self::payload`]: compressed, until all of it
    /// has come.
    in_pieces: bool,
    /// Whether the message is compressed (RFC 7692, section 6).
    compressed: bool,
    /// How long the message is so far, decompressed.
    message_bytes: usize,
    /// How much of a compressed message has come.
    compressed_bytes: usize,
    /// From the first to the last byte of a compressed message that is handed out in pieces.
    inflater: Option<Box<Inflater>>,
    /// With context takeover: the end of what has come compressed, from message to message.
    window: Window,
    /// Whether the last event borrowed from here; what it borrowed is void at the next call.
    handed_out: bool,
    fragments: u32,
    utf8: Utf8Validator,
    frame: Option<Frame>,
    header_bytes: usize,
    header: [u8; HEADER_BYTES_MAX],
    control_bytes: usize,
    control: [u8; CONTROL_PAYLOAD_BYTES_MAX],
    payload: Vec<u8>,
    /// What the pool has counted of it.
    counted: HeapBytes,
}

/// Bytes of heap by what they are kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapBytes {
    /// Messages, frames and headers that have come in part.
    pub partial: usize,
    /// Decompressors, their output, and windows of what has come compressed.
    pub deflate: usize,
}

impl HeapBytes {
    const ZERO: Self = Self { partial: 0, deflate: 0 };

    /// All of them.
    #[must_use]
    pub const fn sum(self) -> usize {
        self.partial + self.deflate
    }

    const fn change(&mut self, before: Self, after: Self) {
        self.partial = self.partial + after.partial - before.partial;
        self.deflate = self.deflate + after.deflate - before.deflate;
    }
}

impl Partial {
    fn new() -> Box<Self> {
        Box::new(Self {
            message: None,
            in_pieces: false,
            compressed: false,
            message_bytes: 0,
            compressed_bytes: 0,
            inflater: None,
            window: Window::new(),
            handed_out: false,
            fragments: 0,
            utf8: Utf8Validator::default(),
            frame: None,
            header_bytes: 0,
            header: [0; HEADER_BYTES_MAX],
            control_bytes: 0,
            control: [0; CONTROL_PAYLOAD_BYTES_MAX],
            payload: Vec::new(),
            counted: HeapBytes::ZERO,
        })
    }

    /// Forgets everything but the buffer's memory, and the window that the next message may refer to.
    fn reset(&mut self) {
        self.message = None;
        self.in_pieces = false;
        self.compressed = false;
        self.message_bytes = 0;
        self.compressed_bytes = 0;
        self.handed_out = false;
        self.fragments = 0;
        self.utf8 = Utf8Validator::default();
        self.frame = None;
        self.header_bytes = 0;
        self.control_bytes = 0;
        self.payload.clear();
    }

    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }

    pub(super) fn control(&self) -> &[u8] {
        &self.control[..self.control_bytes]
    }

    pub(super) fn heap_bytes(&self) -> HeapBytes {
        let inflater_bytes = if self.inflater.is_some() { Inflater::HEAP_BYTES } else { 0 };
        HeapBytes {
            partial: size_of::<Self>() + self.payload.capacity(),
            deflate: self.window.heap_bytes() + inflater_bytes,
        }
    }

    pub(super) fn is_within_message(&self) -> bool {
        self.message.is_some()
    }

    pub(super) fn is_within_frame(&self) -> bool {
        self.frame.is_some()
    }

    pub(super) fn is_within_header(&self) -> bool {
        self.header_bytes > 0
    }

    /// Whether an event borrowed from here, and is by now done with. Says so once.
    pub(super) fn take_back(&mut self) -> bool {
        std::mem::take(&mut self.handed_out)
    }

    pub(super) fn context(&self, config: &DecoderConfig) -> FrameContext {
        if !self.is_within_message() {
            return config.context();
        }
        let message_bytes_max = self.bytes_max(config);
        let payload_bytes_left = if self.compressed {
            compressed_bytes_max(message_bytes_max).saturating_sub(self.compressed_bytes)
        } else {
            message_bytes_max.saturating_sub(self.message_bytes)
        };
        FrameContext { within_message: true, payload_bytes_left, message_bytes_max, ..config.context() }
    }

    /// The limit of the message under way.
    const fn bytes_max(&self, config: &DecoderConfig) -> usize {
        if self.in_pieces { config.pieces_bytes_max } else { config.message_bytes_max }
    }

    /// Hands the message that has just begun out in pieces.
    pub(super) fn deliver_in_pieces(&mut self) {
        assert!(self.is_within_message() && self.message_bytes == 0, "a message has just begun");
        self.in_pieces = true;
        // A buffer that came from the pool would be held for as long as the message lasts.
        self.payload = Vec::new();
    }

    /// Keeps the beginning of a header that the end of the input cuts.
    pub(super) fn begin_header(&mut self, input: &mut Input<'_>) {
        let part = input.take(input.remaining());
        self.header[..part.len()].copy_from_slice(part);
        self.header_bytes = part.len();
    }

    /// Goes on with a cut header, byte by byte, since it is not known how long it is.
    pub(super) fn continue_header(
        &mut self,
        config: &DecoderConfig,
        input: &mut Input<'_>,
    ) -> Result<Option<FrameHeader>, ProtocolError> {
        let context = self.context(config);
        while input.remaining() > 0 {
            self.header[self.header_bytes] = input.take(1)[0];
            self.header_bytes += 1;
            let header = &self.header[..self.header_bytes];
            if let Some(header) = decode_header(header, config.role, &context)? {
                self.header_bytes = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Starts a frame whose payload is to be kept here.
    pub(super) fn begin_frame(
        &mut self,
        config: &DecoderConfig,
        header: &FrameHeader,
        payload_bytes: usize,
    ) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            self.control_bytes = 0;
        } else {
            self.fragments += 1;
            if self.fragments > config.fragments_max {
                let fragments_max = config.fragments_max;
                return Err(ProtocolError::TooManyFragments { fragments_max });
            }
        }
        if let Some(kind) = header.opcode.message_kind() {
            self.message = Some(kind);
            self.compressed = header.rsv1;
        }
        if self.compressed && !header.opcode.is_control() {
            self.compressed_bytes += payload_bytes;
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            mask: header.mask,
            missing_bytes: payload_bytes,
            unmasked_bytes: 0,
        });
        Ok(())
    }

    /// Takes what the input has of the frame's payload.
    pub(super) fn continue_frame(
        &mut self,
        config: &DecoderConfig,
        inflaters: &mut Inflaters,
        input: &mut Input<'_>,
    ) -> Result<Progress, ProtocolError> {
        if self.compressed && self.frame.as_ref().is_some_and(|frame| !frame.opcode.is_control()) {
            return self.continue_compressed(config, inflaters, input);
        }
        let bytes_max = self.bytes_max(config);
        let Some(frame) = &mut self.frame else {
            return Ok(Progress::Fragment);
        };
        let (opcode, fin) = (frame.opcode, frame.fin);
        // The header of a message's first frame is judged before it is known whether it goes out in pieces.
        if !opcode.is_control() && frame.missing_bytes > bytes_max.saturating_sub(self.message_bytes) {
            return Err(ProtocolError::MessageTooBig { bytes_max });
        }
        let range = input.advance(frame.missing_bytes.min(input.remaining()));
        let chunk = input.at(range.clone());
        let kept = !opcode.is_control() && !self.in_pieces;
        let mask = frame.mask;
        if let Some(mask) = &mut frame.mask {
            // What is kept is unmasked on its way there.
            if !kept {
                apply_mask(chunk, *mask, 0);
            }
            *mask = rotate(*mask, chunk.len());
        }
        frame.missing_bytes -= chunk.len();
        let missing_bytes = frame.missing_bytes;
        let complete = missing_bytes == 0;
        if complete {
            self.frame = None;
        }

        if opcode.is_control() {
            self.control[self.control_bytes..][..chunk.len()].copy_from_slice(chunk);
            self.control_bytes += chunk.len();
            self.handed_out = complete;
            return Ok(if complete { Progress::Control(opcode) } else { Progress::Starved });
        }
        if kept {
            let length_max = if fin { self.message_bytes + chunk.len() + missing_bytes } else { bytes_max };
            self.keep_payload(chunk, mask, length_max)?;
        } else {
            self.check_payload(chunk)?;
        }
        let (kind, last) = (self.message, complete && fin);
        if last {
            self.utf8.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
            self.message = None;
            self.handed_out = true;
        }
        Ok(match kind {
            Some(kind) if self.in_pieces && (last || !range.is_empty()) => Progress::Piece { kind, range, last },
            Some(kind) if last => Progress::Message(kind),
            _ if complete => Progress::Fragment,
            _ => Progress::Starved,
        })
    }

    /// Appends payload bytes to the message, which can reach `length_max`, and checks and counts them.
    fn keep_payload(&mut self, chunk: &[u8], mask: Option<[u8; 4]>, length_max: usize) -> Result<(), ProtocolError> {
        make_room(&mut self.payload, chunk.len(), length_max);
        let start = self.payload.len();
        let known_as_ascii = match mask {
            Some(mask) => append_unmasked(&mut self.payload, chunk, mask),
            None => {
                self.payload.extend_from_slice(chunk);
                false
            }
        };
        let is_checked = known_as_ascii && self.utf8.is_between_letters();
        if self.message == Some(MessageKind::Text) && !is_checked {
            self.utf8.feed(&self.payload[start..]).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        self.message_bytes += chunk.len();
        Ok(())
    }

    /// The same for bytes that are handed out from where they lie.
    fn check_payload(&mut self, chunk: &[u8]) -> Result<(), ProtocolError> {
        if self.message == Some(MessageKind::Text) {
            self.utf8.feed(chunk).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        self.message_bytes += chunk.len();
        Ok(())
    }

    /// Makes ready for the next message of a connection whose window is kept. Says whether there is one.
    pub(super) fn rest(&mut self) -> bool {
        if self.window.is_empty() {
            return false;
        }
        self.reset();
        self.payload = Vec::new();
        true
    }
}

/// Makes room for `more` bytes. The buffer grows by what has come and never by what is announced, up to the length that
/// the message can reach: what came in one receive may come four times without another allocation; then it doubles.
fn make_room(payload: &mut Vec<u8>, more: usize, length_max: usize) {
    let needed = payload.len() + more;
    if needed > payload.capacity() {
        let factor = if needed <= RECEIVE_BUFFER_BYTES { 4 } else { 2 };
        // The first receive has a header besides, which the others have not.
        let ample = factor * (needed + HEADER_BYTES_MAX);
        let capacity = ample.min(length_max).max(needed).max(PAYLOAD_CAPACITY_MIN);
        payload.reserve_exact(capacity - payload.len());
    }
}

/// A bounded stock of partial states and decompressors, one per worker, so that traffic which is cut at
/// every turn does not go to the allocator for it.
#[derive(Default)]
pub struct PartialPool {
    /// Boxed, as a decoder keeps them; unboxed, each use would copy and allocate.
    free: FreeList<Box<Partial>, POOLED_PARTIALS_MAX>,
    held: HeapBytes,
    pub(super) inflaters: Inflaters,
}

impl PartialPool {
    /// An empty pool; it holds no memory before the first partial comes back.
    #[must_use]
    pub const fn new() -> Self {
        Self { free: FreeList::new(), held: HeapBytes::ZERO, inflaters: Inflaters::new() }
    }

    /// How many bytes of heap the pool keeps for later use.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.kept().sum()
    }

    /// The same by what they are kept for.
    #[must_use]
    pub fn kept(&self) -> HeapBytes {
        HeapBytes {
            partial: self.free.iter().map(|partial| partial.heap_bytes().partial).sum(),
            deflate: self.inflaters.heap_bytes(),
        }
    }

    /// How many bytes of heap the pool's decoders hold, all together: the sum of what
    /// [`Decoder::buffered_bytes`](super::Decoder::buffered_bytes) says of each.
    #[must_use]
    pub const fn held(&self) -> HeapBytes {
        self.held
    }

    /// Frees what has not been needed since the last time.
    pub fn trim(&mut self) {
        self.free.trim();
        self.inflaters.trim();
    }

    /// What has been decompressed since the pool was made.
    #[must_use]
    pub const fn decompressed(&self) -> Decompressed {
        self.inflaters.decompressed
    }

    pub(super) fn take(&mut self) -> Box<Partial> {
        self.free.take().unwrap_or_else(Partial::new)
    }

    /// Counts what a partial holds now.
    pub(super) fn count(&mut self, partial: &mut Partial) {
        let now = partial.heap_bytes();
        self.held.change(partial.counted, now);
        partial.counted = now;
    }

    pub(super) fn give_back(&mut self, mut partial: Box<Partial>) {
        self.held.change(std::mem::take(&mut partial.counted), HeapBytes::ZERO);
        if let Some(inflater) = partial.inflater.take() {
            self.inflaters.give_back(inflater);
        }
        partial.reset();
        partial.window = Window::new();
        if partial.payload.capacity() > POOLED_PAYLOAD_BYTES_MAX {
            partial.payload = Vec::new();
        }
        self.free.give_back(partial);
    }
}
