//! Decompressing messages, in as many pieces as the wire and the output buffer make of them.

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{TAIL, WINDOW_BITS_MAX};
use crate::free_list::FreeList;
use crate::limits::RECEIVE_BUFFER_BYTES;

/// Decompressors that a core keeps for reuse: one for each compressed message that has come in part
/// at one time, in traffic that is cut often.
const INFLATERS_KEPT_MAX: usize = 16;

/// Bytes of decompressed output that are handed on at once: as many as of what was received.
const OUTPUT_BYTES: usize = RECEIVE_BUFFER_BYTES;

/// A stored block of one byte: where a block may begin it comes out as that byte.
const END_PROBE: [u8; 6] = [0x00, 0x01, 0x00, 0xfe, 0xff, 0x00];

/// What came is no DEFLATE data, or ends in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct InflateError;

/// How far one step came.
pub(in crate::protocol) struct Inflated {
    /// Bytes of the input that are done with.
    pub(in crate::protocol) read: usize,
    /// Bytes of output.
    pub(in crate::protocol) written: usize,
    /// Whether the room for output is used up, so that there may be more without any more input.
    pub(in crate::protocol) is_full: bool,
}

/// The decompressor of one message.
pub(in crate::protocol) struct Inflater {
    inflate: Inflate,
    /// A block that calls itself the last one has ended (section 7.2.3.4).
    ended: bool,
    /// Anything has come.
    begun: bool,
}

impl Inflater {
    /// What a decompressor takes, as counted by an allocator: its window of 32 KiB, and its tables.
    pub(in crate::protocol) const HEAP_BYTES: usize = 47_680;

    fn new() -> Box<Self> {
        // A peer that was told of a smaller window uses part of this one.
        Box::new(Self { inflate: Inflate::new(false, WINDOW_BITS_MAX), ended: false, begun: false })
    }

    /// Decompresses on. It is to be called with the rest of the input until all is read and the output is
    /// not full.
    ///
    /// What follows a block that calls itself the last one starts anew and refers to nothing before it, as a
    /// compressor does that has finished: two bytes are such a block, and must not cost us a window's copy.
    pub(in crate::protocol) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Inflated, InflateError> {
        if self.ended {
            if input.is_empty() {
                return Ok(Inflated { read: 0, written: 0, is_full: false });
            }
            self.start(&[])?;
        }
        self.begun |= !input.is_empty();
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, output, InflateFlush::SyncFlush).map_err(|_| InflateError)?;
        self.ended = status == Status::StreamEnd;
        let count = |after: u64, before: u64| usize::try_from(after - before).map_err(|_| InflateError);
        let read = count(self.inflate.total_in(), before.0)?;
        let written = count(self.inflate.total_out(), before.1)?;
        if read + written == 0 && !input.is_empty() {
            return Err(InflateError);
        }
        Ok(Inflated { read, written, is_full: written == output.len() })
    }

    /// Checks that the message has ended where a block does.
    pub(in crate::protocol) fn finish(&mut self) -> Result<(), InflateError> {
        // Some peers send an empty message as no data at all.
        if self.ended || !self.begun {
            return Ok(());
        }
        let mut output = [0; 2];
        let before = self.inflate.total_out();
        // Behind a whole message the tail is an empty block; of a cut one it may make the rest.
        for (input, bytes) in [(&TAIL[..], 0), (&END_PROBE[..], 1)] {
            let status = self.inflate.decompress(input, &mut output, InflateFlush::SyncFlush);
            if status != Ok(Status::Ok) || self.inflate.total_out() != before + bytes {
                return Err(InflateError);
            }
        }
        Ok(())
    }

    fn start(&mut self, window: &[u8]) -> Result<(), InflateError> {
        self.inflate.reset(false);
        self.ended = false;
        if !window.is_empty() {
            self.inflate.set_dictionary(window).map_err(|_| InflateError)?;
        }
        Ok(())
    }
}

/// How much has been decompressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decompressed {
    /// Messages, each counted at its end.
    pub messages: u64,
    /// Bytes of them as they came.
    pub bytes_in: u64,
    /// Bytes of them as they were handed on.
    pub bytes_out: u64,
}

/// The decompressors of one core that are not in use, and the buffer that they write to.
#[derive(Default)]
pub(in crate::protocol) struct Inflaters {
    /// Boxed, as a message keeps them; unboxed, each use would move kilobytes.
    free: FreeList<Box<Inflater>, INFLATERS_KEPT_MAX>,
    output: Vec<u8>,
    /// Whether the output buffer has been needed since the last trim.
    output_used: bool,
    pub(in crate::protocol) decompressed: Decompressed,
}

impl Inflaters {
    pub(in crate::protocol) const fn new() -> Self {
        Self {
            free: FreeList::new(),
            output: Vec::new(),
            output_used: false,
            decompressed: Decompressed { messages: 0, bytes_in: 0, bytes_out: 0 },
        }
    }

    /// A decompressor for a message that can refer back to `window`.
    pub(in crate::protocol) fn take(&mut self, window: &[u8]) -> Result<Box<Inflater>, InflateError> {
        let mut inflater = self.free.take().unwrap_or_else(Inflater::new);
        inflater.begun = false;
        inflater.start(window)?;
        Ok(inflater)
    }

    pub(in crate::protocol) fn give_back(&mut self, inflater: Box<Inflater>) {
        self.free.give_back(inflater);
    }

    /// Frees what has not been needed since the last time.
    pub(in crate::protocol) fn trim(&mut self) {
        self.free.trim();
        if !std::mem::take(&mut self.output_used) {
            self.output = Vec::new();
        }
    }

    /// How many bytes of heap are kept.
    pub(in crate::protocol) fn heap_bytes(&self) -> usize {
        self.free.iter().count() * Inflater::HEAP_BYTES + self.output.capacity()
    }

    /// The buffer for output, made at the first use.
    pub(in crate::protocol) fn output(&mut self) -> &mut [u8] {
        self.output_used = true;
        self.output.resize(OUTPUT_BYTES, 0);
        &mut self.output
    }
}
