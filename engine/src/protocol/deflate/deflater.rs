//! Compressing messages into frames.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, compress_bound};

use super::{Compression, Direction, TAIL, WINDOW_BITS_MAX, WINDOW_BITS_MIN, Window};
use crate::protocol::frame::{Opcode, append_compressed_header, append_frame};

/// zlib has no compressor for the smallest window. The next larger one never looks back further than
/// its window less 262 bytes, and so serves the smallest, too.
const COMPRESSOR_BITS_MIN: u8 = 9;
/// The sizes of window that there are compressors for.
const COMPRESSORS: usize = (WINDOW_BITS_MAX - COMPRESSOR_BITS_MIN + 1) as usize;

/// zlib's measure of a compressor's memory. Its own default, 8, takes 86 KB more and about a microsecond longer
/// a message, and makes messages of up to 4 KB no smaller.
const MEMORY_LEVEL: i32 = 6;

/// The largest output buffer that is kept between two messages.
const SCRATCH_KEPT_BYTES_MAX: usize = 64 * 1024;

const _: () = assert!((1 << COMPRESSOR_BITS_MIN) - 262 <= 1 << WINDOW_BITS_MIN, "a small window serves the smallest");

/// What a compressor takes, as counted by an allocator, its window and chains of four bytes for each byte of the
/// window apart.
const COMPRESSOR_BYTES: usize = 163_000;

/// The compressors of one core: one for each size of window that is in use, made when it is.
pub struct Deflater {
    level: u8,
    threshold_bytes: usize,
    compressors: [Option<Box<Deflate>>; COMPRESSORS],
    /// Which of them have been needed since the last trim.
    used: [bool; COMPRESSORS],
    scratch: Vec<u8>,
}

impl Deflater {
    /// A deflater that holds no memory before its first message.
    #[must_use]
    pub fn new(compression: &Compression) -> Self {
        Self {
            level: compression.level,
            threshold_bytes: compression.threshold_bytes,
            compressors: Default::default(),
            used: [false; COMPRESSORS],
            scratch: Vec::new(),
        }
    }

    /// Whether a payload of this length is worth compressing.
    #[must_use]
    pub const fn is_worth(&self, payload_bytes: usize) -> bool {
        payload_bytes >= self.threshold_bytes
    }

    /// About how many bytes of heap it takes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let sizes = (COMPRESSOR_BITS_MIN..=WINDOW_BITS_MAX).zip(&self.compressors);
        let bytes = |(bits, place): (u8, &Option<_>)| place.as_ref().map_or(0, |_| COMPRESSOR_BYTES + (4 << bits));
        self.scratch.capacity() + sizes.map(bytes).sum::<usize>()
    }

    /// Frees what has not been needed since the last time.
    pub fn trim(&mut self) {
        for (place, used) in self.compressors.iter_mut().zip(&mut self.used) {
            if !std::mem::take(used) {
                *place = None;
            }
        }
        if self.compressors.iter().all(Option::is_none) {
            self.scratch = Vec::new();
        }
    }

    /// Appends a whole message as an unmasked frame: compressed, if it is long enough and becomes
    /// shorter by it, or else as it is. Says whether it was compressed.
    ///
    /// With context takeover it refers to what `window` holds, at most
    /// [`CONTEXT_BYTES_MAX`](super::CONTEXT_BYTES_MAX), and slides the window; then every
    /// frame must reach the peer, in this order.
    pub fn append_message(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        direction: Direction,
        window: &mut Window,
    ) -> bool {
        let compressed = self.compress(payload, direction, window.as_slice());
        match compressed {
            Some(bytes) => {
                append_compressed_header(out, opcode, bytes);
                out.extend_from_slice(&self.scratch[..bytes]);
                window.slide(payload, direction.context_bytes());
            }
            None => append_frame(out, opcode, payload),
        }
        self.scratch.truncate(SCRATCH_KEPT_BYTES_MAX);
        self.scratch.shrink_to(SCRATCH_KEPT_BYTES_MAX);
        compressed.is_some()
    }

    /// Compresses into the scratch buffer; `None` if that is not worth it.
    fn compress(&mut self, payload: &[u8], direction: Direction, window: &[u8]) -> Option<usize> {
        if payload.is_empty() || !self.is_worth(payload.len()) {
            return None;
        }
        let bits = direction.window_bits.max(COMPRESSOR_BITS_MIN);
        let index = usize::from(bits - COMPRESSOR_BITS_MIN);
        self.used[index] = true;
        let place = &mut self.compressors[index];
        let compressor = place.get_or_insert_with(|| compressor(self.level, bits));
        compressor.reset();
        if !window.is_empty() {
            compressor.set_dictionary(window).ok()?;
        }
        let room = compress_bound(payload.len());
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let outcome = compressor.compress(payload, &mut self.scratch[..room], DeflateFlush::SyncFlush);
        let bytes = usize::try_from(compressor.total_out()).unwrap_or(room);
        // The compressor takes at most 4 GiB at once.
        let is_all = compressor.total_in() == payload.len() as u64;
        if outcome.is_err() || !is_all || bytes >= room {
            // A compressor with output that was not taken can't be used again, not even by a reset.
            *place = None;
            return None;
        }
        let bytes = self.scratch[..bytes].strip_suffix(&TAIL)?.len();
        (bytes < payload.len()).then_some(bytes)
    }
}

fn compressor(level: u8, window_bits: u8) -> Box<Deflate> {
    Box::new(Deflate::new_with_config(DeflateConfig {
        level: i32::from(level),
        // Negative means without zlib's header.
        window_bits: -i32::from(window_bits),
        mem_level: MEMORY_LEVEL,
        ..DeflateConfig::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_leaves_a_large_buffer_behind() {
        let direction = Direction { context_takeover: false, window_bits: WINDOW_BITS_MAX };
        let mut deflater = Deflater::new(&Compression { level: 1, ..Compression::default() });
        let mut random = crate::protocol::random::Random::from_environment();
        for payload in [vec![b'a'; 1 << 20], random.bytes(1 << 20)] {
            deflater.append_message(&mut Vec::new(), Opcode::Binary, &payload, direction, &mut Window::new());
            assert!(deflater.scratch.capacity() <= SCRATCH_KEPT_BYTES_MAX, "{} bytes", deflater.scratch.capacity());
        }
    }
}
