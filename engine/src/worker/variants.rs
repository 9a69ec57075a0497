//! What a broadcast is sent as: once as it is, and once compressed for each size of window.

use super::connection::Connection;
use super::corks::Corks;
use super::held::Held;
use crate::driver::{FrameBytes, SharedBytes};
use crate::protocol::Role;
use crate::protocol::deflate::{Compression, Deflater, Direction, WINDOW_BITS_MAX, WINDOW_BITS_MIN, Window};
use crate::protocol::frame::{WrittenFrame, written_frame};
use crate::stats::Stats;

/// Sizes of window that can be agreed on.
const WINDOWS: usize = (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize;

/// permessage-deflate on one core.
pub(super) struct Deflating {
    pub(super) compression: Compression,
    deflater: Deflater,
}

impl Deflating {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, deflater: Deflater::new(&compression) }
    }

    /// About how many bytes of heap the compressors take.
    pub(super) fn heap_bytes(&self) -> usize {
        self.deflater.heap_bytes()
    }

    /// Frees the compressors that have not been needed since the last time.
    pub(super) fn trim(&mut self) {
        self.deflater.trim();
    }

    /// Whether a payload of this length is worth compressing.
    pub(super) const fn is_worth(&self, payload_bytes: usize) -> bool {
        self.deflater.is_worth(payload_bytes)
    }

    /// Appends an encoded frame as one connection is to get it.
    pub(super) fn append<S>(
        &mut self,
        out: &mut Vec<u8>,
        frame: &WrittenFrame<'_>,
        connection: &mut Connection<S>,
        held: &mut Held,
        stats: &mut Stats,
    ) {
        let direction = connection.deflate.outbound(Role::Server);
        if direction.context_takeover && self.deflater.is_worth(frame.payload.len()) {
            connection.with_rare(held, |rare| self.compress(out, frame, direction, &mut rare.sent, stats));
            connection.tidy(held);
        } else {
            self.compress(out, frame, direction, &mut Window::new(), stats);
        }
    }

    fn compress(
        &mut self,
        out: &mut Vec<u8>,
        frame: &WrittenFrame<'_>,
        direction: Direction,
        window: &mut Window,
        stats: &mut Stats,
    ) {
        let before = out.len();
        if self.deflater.append_message(out, frame.opcode, frame.payload, direction, window) {
            stats.compressions += 1;
            stats.compression_bytes_in += frame.bytes.len() as u64;
            stats.compression_bytes_out += (out.len() - before) as u64;
        }
    }
}

/// Encoded frames that many connections are sent, in all the ways that the connections need.
///
/// What is shared refers to no earlier message, so that it fits a connection with context takeover as
/// well as others.
pub(super) struct Variants {
    plain: SharedBytes,
    /// Whether any of the messages is long enough to be compressed, once that was looked for.
    any_worth: Option<bool>,
    compressed: [Option<SharedBytes>; WINDOWS],
}

/// One of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// As the messages were given.
    Plain,
    /// Compressed, by the place of the window's size among all.
    Window(usize),
}

impl Variants {
    pub(super) fn new(plain: SharedBytes) -> Self {
        Self { plain, any_worth: None, compressed: Default::default() }
    }

    /// The messages as they were given.
    pub(super) fn plain(&self) -> &[u8] {
        self.plain.as_slice()
    }

    /// Which of the variants this connection is to get; it is made if need be.
    #[inline]
    pub(super) fn choose<S>(
        &mut self,
        connection: &Connection<S>,
        deflating: Option<&mut Deflating>,
        stats: &mut Stats,
    ) -> Variant {
        match deflating {
            Some(deflating) if connection.deflate.is_agreed() => {
                self.with_window(connection.deflate.outbound(Role::Server).window_bits, deflating, stats)
            }
            _ => Variant::Plain,
        }
    }

    /// The frames of a variant that was chosen.
    #[inline]
    pub(super) fn frames(&self, variant: Variant) -> &SharedBytes {
        match variant {
            Variant::Plain => &self.plain,
            Variant::Window(index) => self.compressed[index].as_ref().unwrap_or(&self.plain),
        }
    }

    fn with_window(&mut self, window_bits: u8, deflating: &mut Deflating, stats: &mut Stats) -> Variant {
        let index = usize::from(window_bits - WINDOW_BITS_MIN);
        if self.compressed[index].is_none() {
            let worth = |frame: WrittenFrame<'_>| deflating.deflater.is_worth(frame.payload.len());
            if !*self.any_worth.get_or_insert_with(|| frames_in(self.plain.as_slice()).any(worth)) {
                return Variant::Plain;
            }
            let direction = Direction { context_takeover: false, window_bits };
            let mut frames = Vec::new();
            for frame in frames_in(self.plain.as_slice()) {
                deflating.compress(&mut frames, &frame, direction, &mut Window::new(), stats);
            }
            self.compressed[index] = Some(SharedBytes::new(FrameBytes::Local(frames)));
        }
        Variant::Window(index)
    }

    /// Takes note of a variant that a connection is sent. With context takeover its peer's window slides on; ours
    /// would have to follow with a copy for every receiver. It starts anew instead: the next message of the
    /// connection's own refers to none before it. So it does where `replaceable` messages are not compressed: while they
    /// wait, one that is may take the place of one of them.
    #[inline]
    pub(super) fn note_sent<S>(variant: Variant, replaceable: bool, connection: &mut Connection<S>, held: &mut Held) {
        if (variant != Variant::Plain || replaceable) && connection.deflate.outbound(Role::Server).context_takeover {
            connection.forget_sent(held);
        }
    }

    /// Gives memory that nobody else refers to back for reuse.
    pub(super) fn recycle(self, corks: &mut Corks) {
        for frames in self.compressed.into_iter().flatten().chain([self.plain]) {
            corks.keep_shared(frames);
        }
    }
}

/// The frames that lie one behind the other in what we have encoded.
pub(super) fn frames_in(mut bytes: &[u8]) -> impl Iterator<Item = WrittenFrame<'_>> {
    std::iter::from_fn(move || {
        let frame = written_frame(bytes)?;
        bytes = &bytes[frame.bytes.len()..];
        Some(frame)
    })
}
